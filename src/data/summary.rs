//! `DataBlock::summary`: the walk-through that shows what a description does to a folder.
//!
//! The text is fastai's, letter by letter, with transforms spelled as in 2021. The work behind it is real: files are
//! found, the first pictures are decoded and transformed, a batch is put together; only the batch transforms, which need a
//! device, are asked for the sizes that they would produce. So the summary stops where training would.

use super::block::DataBlock;
use super::transform::{self, ItemTransform, Subset};
use super::{Datasets, Picture, python, worker};
use crate::rng::{Purpose, Rng};
use crate::{Error, ErrorKind, Result};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// The class under which fastai shows a class number.
const CATEGORY: &str = "TensorCategory";

/// Writing into a `String` cannot fail; this spares every line a `let _ =`.
macro_rules! say {
    ($out:expr $(, $($arg:tt)*)?) => {{ let _ = writeln!($out $(, $($arg)*)?); }};
}

impl DataBlock {
    /// The steps from `source` to a batch of four, as text. fastai: `DataBlock.summary(source, bs=4)`.
    ///
    /// ```text
    /// Setting-up type transforms pipelines
    /// Collecting items from pets/images
    /// Found 7390 items
    /// 2 datasets of sizes 5912,1478
    /// ...
    /// ```
    ///
    /// # Errors
    /// Whatever would stop training on this folder: as [`DataBlock::datasets`], a picture that cannot be opened, or
    /// pictures of different sizes. The message ends with the text up to the step that failed.
    pub fn summary(&self, source: impl AsRef<Path>) -> Result<String> {
        let mut text = String::new();
        match self.write_summary(source, 4, &mut text) {
            Ok(()) => Ok(text),
            Err(e) => Err(e.after_text(&text)),
        }
    }

    /// [`DataBlock::summary`] with a batch of `bs`, appended to `text`: after an error, `text` holds the steps up to
    /// the one that failed.
    ///
    /// # Errors
    /// As [`DataBlock::summary`].
    pub fn write_summary(&self, source: impl AsRef<Path>, bs: usize, text: &mut String) -> Result<()> {
        let source = source.as_ref();
        say!(text, "Setting-up type transforms pipelines");
        let datasets = self.set_up(source, text)?;
        say!(text);
        let (picture, target) = self.one_sample(&datasets, text)?;
        let sample = format!("({}, {CATEGORY}({target}))", picture_text(&picture));
        say!(text, "\nFinal sample: {sample}\n\n");

        // fastai builds the datasets a second time for the loaders, and so may a split without seed change here; the
        // first ones are kept, so that the sample shown is the first of the batch.
        self.set_up(source, text)?;
        let item_names = self.item_names();
        let item_line = item_names.join(" -> ");
        let (height, width) = (picture.height, picture.width);
        let batch_line: Vec<String> =
            self.batch_tfms.stages((height, width)).into_iter().map(|s| s.description).collect();
        let batch_line = batch_line.join(" -> ");
        say!(text, "Setting up after_item: Pipeline: {item_line}");
        say!(text, "Setting up before_batch: Pipeline: ");
        say!(text, "Setting up after_batch: Pipeline: {batch_line}");

        say!(text, "\nBuilding one batch");
        say!(text, "Applying item_tfms to the first sample:");
        say!(text, "  Pipeline: {item_line}\n    starting from\n      {sample}");
        let first = self.first_item(&datasets, picture, target, text)?;
        // fastai fails with an index error where the set is smaller; a shorter batch shows the same steps.
        let n = bs.min(datasets.len(Subset::Train)).max(1);
        say!(text, "\nAdding the next {} samples", n - 1);
        let mut shapes = vec![(first.height, first.width)];
        let mut targets = vec![target];
        for i in 1..n {
            let (picture, target) = self.sample(&datasets, i)?;
            shapes.push((picture.height, picture.width));
            targets.push(target);
        }
        say!(text, "\nNo before_batch transform to apply\n\nCollating items in a batch");
        if let Some(odd) = (0..n).find(|&i| shapes[i] != shapes[0]) {
            say!(text, "Error! It's not possible to collate your items in a batch");
            say!(text, "{}", worker::collate_text(&shapes));
            let path = datasets.sample(Subset::Train, odd)?.0;
            return Err(Error::new(ErrorKind::Shape, "the picture's size differs from that of the first in the batch")
                .on(path.display())
                .remedy("add an item transform that makes all pictures one size, such as Resize(460)"));
        }

        say!(text, "\nApplying batch_tfms to the batch built\n  Pipeline: {batch_line}\n    starting from");
        let targets = python::integers(CATEGORY, &targets);
        let batch = |h: usize, w: usize| format!("      (TensorImage of size {n}x3x{h}x{w}, {targets})");
        say!(text, "{}", batch(shapes[0].0, shapes[0].1));
        for stage in self.batch_tfms.stages(shapes[0]) {
            say!(text, "    applying {} gives\n{}", stage.description, batch(stage.height, stage.width));
        }
        Ok(())
    }

    /// The five lines about the type transforms.
    fn set_up(&self, source: &Path, text: &mut String) -> Result<Datasets> {
        say!(text, "Collecting items from {}", source.display());
        let datasets = self.datasets(source)?;
        say!(text, "Found {} items", datasets.items().len());
        say!(text, "2 datasets of sizes {},{}", datasets.len(Subset::Train), datasets.len(Subset::Valid));
        say!(text, "Setting up Pipeline: {}", self.opener.name());
        say!(text, "Setting up Pipeline: {}", self.target_names().join(" -> "));
        Ok(datasets)
    }

    fn one_sample(&self, datasets: &Datasets, text: &mut String) -> Result<(Picture, i64)> {
        let (path, target) = datasets.sample(Subset::Train, 0)?;
        let start = format!("    starting from\n      {}", path.display());
        say!(text, "Building one sample\n  Pipeline: {}\n{start}", self.opener.name());
        let picture =
            self.opener.open(path).inspect_err(|_| say!(text, "    applying {} failed.", self.opener.name()))?;
        say!(text, "    applying {} gives\n      {}", self.opener.name(), picture_text(&picture));
        say!(text, "  Pipeline: {}\n{start}", self.target_names().join(" -> "));
        let label = &datasets.vocab().names()[target as usize];
        // With `add_na` an unknown label has become `#na#`: show what the labeller said.
        let label = self.labeller.as_ref().map_or_else(|| Ok(label.clone()), |l| l.label(path))?;
        let values = [label, format!("{CATEGORY}({target})")];
        for (name, value) in self.target_names().iter().zip(values) {
            say!(text, "    applying {name} gives\n      {value}");
        }
        Ok((picture, target))
    }

    /// Item transforms on the first sample, one by one. fastai's summary runs them as in training.
    fn first_item(&self, datasets: &Datasets, picture: Picture, target: i64, text: &mut String) -> Result<Picture> {
        let path = datasets.sample(Subset::Train, 0)?.0.to_owned();
        let mut rng = self.item_rng(datasets, 0);
        let mut picture = picture;
        let mut bytes = false;
        for step in self.item_steps() {
            let name = step.map_or("ToTensor".into(), |t| t.describe());
            match step {
                Some(t) => {
                    picture = t.apply(picture, Subset::Train, &mut rng).map_err(|e| {
                        say!(text, "    applying {name} failed.");
                        e.on(path.display())
                    })?;
                }
                None => bytes = true,
            }
            let shown = match bytes {
                true => format!("TensorImage of size 3x{}x{}", picture.height, picture.width),
                false => picture_text(&picture),
            };
            say!(text, "    applying {name} gives\n      ({shown}, {CATEGORY}({target}))");
        }
        Ok(picture)
    }

    fn sample(&self, datasets: &Datasets, i: usize) -> Result<(Picture, i64)> {
        let (picture, target) = datasets.get(Subset::Train, i)?;
        let path = datasets.sample(Subset::Train, i)?.0;
        let picture = transform::run(&self.item_tfms, picture, Subset::Train, &mut self.item_rng(datasets, i));
        Ok((picture.map_err(|e| e.on(path.display()))?, target))
    }

    fn item_rng(&self, datasets: &Datasets, i: usize) -> Rng {
        Rng::at(self.options.seed, Purpose::ItemTransform, 0, datasets.splits().train[i] as u64)
    }

    fn target_names(&self) -> Vec<String> {
        let labeller = self.labeller.as_ref().map(|l| l.name());
        labeller.into_iter().chain([self.categorize.describe()]).collect()
    }

    /// The item transforms with `None` at the place of `ToTensor`, which here is only a way of looking at the bytes.
    fn item_steps(&self) -> Vec<Option<&Arc<dyn ItemTransform>>> {
        let at = self.item_tfms.iter().take_while(|t| t.order() < 5).count();
        let mut steps: Vec<_> = self.item_tfms.iter().map(Some).collect();
        steps.insert(at, None);
        steps
    }

    fn item_names(&self) -> Vec<String> {
        self.item_steps().into_iter().map(|s| s.map_or("ToTensor".into(), |t| t.describe())).collect()
    }
}

fn picture_text(picture: &Picture) -> String {
    format!("PILImage mode=RGB size={}x{}", picture.width, picture.height)
}

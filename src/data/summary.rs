//! `DataBlock::summary`: the walk-through that shows what a description does to a folder.
//!
//! The text is fastai's, letter by letter, with transforms spelled as in 2021. The work behind it is real: files are
//! found, the first pictures are decoded and transformed, a batch is put together; only the batch transforms, which need a
//! device, are asked for the sizes that they would produce. So the summary stops where training would.

use super::block::{DataBlock, Source};
use super::target::{Target, Targets};
use super::transform::{self, ItemTransform, Subset};
use super::{Datasets, Picture, worker};
use crate::rng::{Purpose, Rng};
use crate::{Error, ErrorKind, Result};
use std::fmt::Write;
use std::sync::Arc;

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
    pub fn summary(&self, source: impl Source) -> Result<String> {
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
    pub fn write_summary(&self, source: impl Source, bs: usize, text: &mut String) -> Result<()> {
        say!(text, "Setting-up type transforms pipelines");
        let datasets = self.set_up(&source, text)?;
        say!(text);
        let (picture, target) = self.one_sample(&datasets, text)?;
        let sample = format!("({}, {target})", picture_text(&picture));
        say!(text, "\nFinal sample: {sample}\n\n");

        // fastai builds the datasets a second time for the loaders, and so may a split without seed change here; the
        // first ones are kept, so that the sample shown is the first of the batch.
        self.set_up(&source, text)?;
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
        let first = self.first_item(&datasets, picture, &target, text)?;
        // fastai fails with an index error where the set is smaller; a shorter batch shows the same steps.
        let n = bs.min(datasets.len(Subset::Train)).max(1);
        say!(text, "\nAdding the next {} samples", n - 1);
        let mut shapes = vec![(first.height, first.width)];
        let mut targets = vec![(0, target)];
        for i in 1..n {
            let (picture, target) = self.sample(&datasets, i)?;
            shapes.push((picture.height, picture.width));
            targets.push((i, target));
        }
        say!(text, "\nNo before_batch transform to apply\n\nCollating items in a batch");
        if let Some(odd) = (0..n).find(|&i| shapes[i] != shapes[0]) {
            say!(text, "Error! It's not possible to collate your items in a batch");
            say!(text, "{}", worker::collate_text(&shapes));
            let path = |i| datasets.sample(Subset::Train, i).map(|s| s.0);
            let differ = worker::sizes_differ(path(odd)?, shapes[odd], path(0)?, shapes[0]);
            return Err(Error::new(ErrorKind::Shape, differ).on(path(odd)?.display()).remedy(worker::ONE_SIZE));
        }

        say!(text, "\nApplying batch_tfms to the batch built\n  Pipeline: {batch_line}\n    starting from");
        let targets = Targets::collect(n, targets).map_err(|(_, e)| e)?;
        let batch = |h: usize, w: usize| format!("      (TensorImage of size {n}x3x{h}x{w}, {targets})");
        say!(text, "{}", batch(shapes[0].0, shapes[0].1));
        for stage in self.batch_tfms.stages(shapes[0]) {
            say!(text, "    applying {} gives\n{}", stage.description, batch(stage.height, stage.width));
        }
        Ok(())
    }

    /// The five lines about the type transforms.
    fn set_up(&self, source: &dyn Source, text: &mut String) -> Result<Datasets> {
        say!(text, "Collecting items from {}", source.shown());
        let datasets = self.datasets_of(source)?;
        say!(text, "Found {} items", datasets.items().len());
        say!(text, "2 datasets of sizes {},{}", datasets.len(Subset::Train), datasets.len(Subset::Valid));
        say!(text, "Setting up Pipeline: {}", self.input_names().join(" -> "));
        say!(text, "Setting up Pipeline: {}", self.target_names().join(" -> "));
        Ok(datasets)
    }

    fn one_sample(&self, datasets: &Datasets, text: &mut String) -> Result<(Picture, Target)> {
        let item = datasets.item(Subset::Train, 0)?;
        let (path, target) = datasets.sample(Subset::Train, 0)?;
        let start = format!("    starting from\n      {item}");
        say!(text, "Building one sample\n  Pipeline: {}\n{start}", self.input_names().join(" -> "));
        if let Some(getter) = self.paths() {
            say!(text, "    applying {} gives\n      {}", getter.name(), path.display());
        }
        let picture =
            self.opener.open(path).inspect_err(|_| say!(text, "    applying {} failed.", self.opener.name()))?;
        say!(text, "    applying {} gives\n      {}", self.opener.name(), picture_text(&picture));
        say!(text, "  Pipeline: {}\n{start}", self.target_names().join(" -> "));
        let mut values = Vec::new();
        let mut steps = vec![target.to_string()];
        // What the labeller said, not what became of it: with `add_na` an unknown label is `#na#` afterwards.
        if let Some(labels) = self.labels() {
            let label = labels.get(item)?;
            steps = datasets.encode().steps(&label, &target);
            values.push(label.to_string());
        }
        for (name, value) in self.target_names().iter().zip(values.into_iter().chain(steps)) {
            say!(text, "    applying {name} gives\n      {value}");
        }
        Ok((picture, target))
    }

    /// Item transforms on the first sample, one by one. fastai's summary runs them as in training.
    fn first_item(&self, datasets: &Datasets, picture: Picture, target: &Target, text: &mut String) -> Result<Picture> {
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
            say!(text, "    applying {name} gives\n      ({shown}, {target})");
        }
        Ok(picture)
    }

    fn sample(&self, datasets: &Datasets, i: usize) -> Result<(Picture, Target)> {
        let (picture, target) = datasets.get(Subset::Train, i)?;
        let path = datasets.sample(Subset::Train, i)?.0;
        let picture = transform::run(&self.item_tfms, picture, Subset::Train, &mut self.item_rng(datasets, i));
        Ok((picture.map_err(|e| e.on(path.display()))?, target))
    }

    fn item_rng(&self, datasets: &Datasets, i: usize) -> Rng {
        Rng::at(self.options.seed, Purpose::ItemTransform, 0, datasets.splits().train[i] as u64)
    }

    fn input_names(&self) -> Vec<String> {
        let getter = self.paths().map(|g| g.name());
        getter.into_iter().chain([self.opener.name().to_owned()]).collect()
    }

    fn target_names(&self) -> Vec<String> {
        let getter = self.labels().map(|g| g.name());
        getter.into_iter().chain(self.target.describe()).collect()
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

//! A target block, a labeller and a getter of one's own.
//!
//!     cargo run --release --example custom_block
//!
//! A [`Labeller`] turns a path into a text, a [`Getter`] any item into any value. A [`TargetBlock`] sees the labels of the
//! training items and becomes an [`Encode`], which turns a label into what the network should say.
//! `custom_transform.rs` has the other two: a transform and a splitter.

use onecycle::data::{Encode, Files, Item, Labeller, Target, TargetBlock, Value, Vocab, getter};
use onecycle::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// The part of a file's name before its last underscore.
struct Stem;

impl Labeller for Stem {
    // `summary()` prints this.
    fn name(&self) -> String {
        "Stem".into()
    }

    fn label(&self, path: &Path) -> Result<String> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let class = stem.rsplit_once('_').map(|(class, _)| class.to_string());
        class.ok_or_else(|| Error::new(ErrorKind::Label, "the name has no underscore").on(path.display()))
    }
}

/// Classes that stand for several labels: a network learns the groups only.
struct Groups(Vec<(&'static str, Vec<&'static str>)>);

impl TargetBlock for Groups {
    fn describe(&self) -> Vec<String> {
        vec![format!("Groups -- {{'n': {}}}", self.0.len())]
    }

    // A `CategoryBlock` would learn its vocabulary from the labels; this one has it.
    fn learn(&self, _: &[&Value]) -> Result<Arc<dyn Encode>> {
        let names = self.0.iter().map(|(name, _)| name.to_string()).collect();
        Ok(Arc::new(Encoded { groups: self.0.clone(), vocab: Vocab::new(names, false) }))
    }
}

struct Encoded {
    groups: Vec<(&'static str, Vec<&'static str>)>,
    vocab: Vocab,
}

impl Encode for Encoded {
    fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    // An error names the label; which item has it is added by the caller.
    fn encode(&self, label: &Value) -> Result<Target> {
        let label = label.to_string();
        let group = self.groups.iter().position(|(_, members)| members.contains(&label.as_str()));
        let group = group.ok_or_else(|| Error::new(ErrorKind::Label, format!("'{label}' is in no group")))?;
        Ok(Target::Category(group as i64))
    }
}

fn main() -> Result<()> {
    let pictures = onecycle::vision::render_quickstart(&std::env::temp_dir().join("onecycle-examples"), 42)?;
    let classes = onecycle::vision::QUICKSTART_CLASSES;
    let (first, second) = classes.split_at(classes.len() / 2);
    let groups = Groups(vec![("first half", first.to_vec()), ("second half", second.to_vec())]);
    let dblock = DataBlock::new((ImageBlock, groups))
        .get_y(Stem)
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(40))
        .bs(32);
    print!("{}", dblock.summary(&pictures)?);
    let mut learn = vision_learner(&dblock.dataloaders(&pictures)?, resnet18)?.metrics(accuracy);
    learn.fit_one_cycle(1, 3e-3)?;
    println!("accuracy {:.2}", learn.recorder().last("accuracy").unwrap_or(f64::NAN));

    // A closure is a getter too. This one says two things of each picture, for which there are several outputs.
    let letters = getter(|item: &Item| {
        let class = Stem.label(item.path()?)?;
        let (first, last) = (class.chars().next(), class.chars().last());
        Ok(vec![format!("begins with {}", first.unwrap_or(' ')), format!("ends with {}", last.unwrap_or(' '))])
    });
    let dls = DataBlock::new((ImageBlock, MultiCategoryBlock))
        .get_y(letters)
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(40))
        .dataloaders(Files(get_image_files(&pictures)?))?;
    let batch = dls.one_batch()?;
    println!("\n{} classes, targets of a batch {:?}", dls.c(), batch.targets.to_tensor(Device::Cpu)?.shape());
    println!("{}: {}", batch.paths[0].display(), dls.datasets().encode().title(&batch.targets.get(0)));
    Ok(())
}

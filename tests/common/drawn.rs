//! A data set without files, and a network that trains on it in no time.

use onecycle::data::*;
use onecycle::learner::{Learner, vision_learner_on};
use onecycle::nn::Arch;
use onecycle::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Makes a picture out of its path: dark in the folder `dark`, else light, with a noise of its own.
pub struct Drawn;

impl OpenPicture for Drawn {
    fn name(&self) -> &str {
        "Drawn"
    }

    fn open(&self, path: &Path) -> Result<Picture> {
        let hash = path.to_string_lossy().bytes().fold(7usize, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let base = if path.parent() == Some(Path::new("dark")) { 0 } else { 150 };
        let rgb = (0..16 * 16 * 3).map(|i: usize| (base + (i.wrapping_mul(hash) >> 3) % 100) as u8).collect();
        Ok(Picture { width: 16, height: 16, rgb })
    }
}

impl InputBlock for Drawn {
    fn opener(self) -> Arc<dyn OpenPicture> {
        Arc::new(self)
    }
}

/// A ResNet with one thin block a stage.
pub fn tiny() -> Arch {
    Arch { name: "tiny".into(), bottleneck: false, blocks: [1, 1, 1, 1], widths: [8, 8, 16, 16] }
}

/// Light and dark pictures: `n_iter` training batches of `bs`, and four to validate.
pub fn light_and_dark(n_iter: usize, bs: usize) -> DataLoaders {
    let name = |i: usize| PathBuf::from(format!("{}/{i}.png", ["dark", "light"][i % 2]));
    let block = DataBlock::new((Drawn, CategoryBlock)).get_y(parent_label).splitter(IndexSplitter::new([0, 1, 2, 3]));
    let block = block.batch_tfms(aug_transforms().size(16).normalize(IMAGENET_STATS)).bs(bs);
    block.dataloaders(Files((0..bs * n_iter + 4).map(name).collect())).unwrap()
}

/// A learner of light and dark that prints nothing.
pub fn learner(n_iter: usize, bs: usize, device: Device) -> Learner {
    let mut learn = vision_learner_on(&light_and_dark(n_iter, bs), tiny, device).unwrap().metrics(error_rate);
    learn.remove_cb("ProgressCallback");
    assert_eq!(learn.dls().train.len(), n_iter);
    learn
}

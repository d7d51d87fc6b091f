//! A data set that a network of a few thousand parameters learns in seconds, and that network.

use super::drawn::tiny;
use onecycle::learner::Learner;
use onecycle::nn::Module;
use onecycle::prelude::*;
use std::path::Path;

/// Pictures of one colour each, with noise: `red_0.png` and so on. A network this small learns them in seconds.
pub fn colours(dir: &Path, per_class: usize) {
    let mut rng = onecycle::rng::Rng::at(5, onecycle::rng::Purpose::Picture, 0, 0);
    for (class, rgb) in [("red", [200u8, 40, 40]), ("green", [40, 200, 40]), ("blue", [40, 40, 200])] {
        for i in 0..per_class {
            let (w, h) = (20 + rng.below(12) as u32, 20 + rng.below(12) as u32);
            let pixels: Vec<u8> = (0..w * h).flat_map(|_| rgb.map(|v| v.saturating_add(rng.below(50) as u8))).collect();
            let image = image::RgbImage::from_raw(w, h, pixels).unwrap();
            image.save(dir.join(format!("{class}_{i}.png"))).unwrap();
        }
    }
}

pub fn loaders(dir: &Path, seed: u64, workers: usize) -> DataLoaders {
    DataBlock::new((ImageBlock, CategoryBlock))
        .get_items(get_image_files)
        .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.png$").unwrap(), "name"))
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(24))
        .batch_tfms(aug_transforms().size(16).min_scale(0.75).normalize(IMAGENET_STATS))
        .bs(8)
        .seed(seed)
        .workers(workers)
        .dataloaders(dir)
        .unwrap()
}

pub fn learner(dls: &DataLoaders) -> Learner {
    let mut learn = vision_learner(dls, tiny).unwrap().metrics(error_rate);
    learn.remove_cb("ProgressCallback");
    learn
}

pub fn weights(learn: &Learner) -> Vec<Vec<f64>> {
    learn.model().state().iter().map(|(_, entry)| entry.value().to_f64_vec().unwrap()).collect()
}

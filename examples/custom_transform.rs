//! An item transform and a splitter of one's own.
//!
//!     cargo run --release --example custom_transform
//!
//! An [`ItemTransform`] works on one picture in a worker thread; its random numbers come from the generator handed in, so
//! the run can be repeated with any number of threads. A [`Splitter`] sees the sorted list of items.

use onecycle::data::{Item, ItemTransform, Picture, Splits, Splitter, Subset};
use onecycle::prelude::*;
use onecycle::rng::Rng;

/// Paints a grey square over a random place of half of the training pictures (DeVries and Taylor: *Cutout*, 2017).
#[derive(Debug)]
struct Cutout {
    /// The square's side as a share of the picture's shorter side.
    share: f64,
}

impl ItemTransform for Cutout {
    // `summary()` prints this. Of two transforms with one name before the ` -- `, the later one counts.
    fn describe(&self) -> String {
        format!("Cutout -- {{'share': {:?}}}", self.share)
    }

    // `Resize` has 1: cutting out comes after it, on pictures of one size.
    fn order(&self) -> i32 {
        2
    }

    fn apply(&self, mut picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        if subset == Subset::Valid || !rng.chance(0.5) {
            return Ok(picture);
        }
        let Picture { width, height, .. } = picture;
        let side = ((width.min(height) as f64 * self.share) as usize).clamp(1, width.min(height));
        let (left, top) = (rng.below(width - side + 1), rng.below(height - side + 1));
        for row in picture.rgb.chunks_exact_mut(width * 3).skip(top).take(side) {
            row[left * 3..(left + side) * 3].fill(128);
        }
        Ok(picture)
    }

    // Kept in an exported model. `Predictor::load` rebuilds the library's own transforms from it and refuses others, so a
    // learner that trained with this one predicts itself.
    fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "name": "Cutout", "share": self.share })
    }
}

/// Every `n`th item of the sorted list validates.
struct EveryNth(usize);

impl Splitter for EveryNth {
    fn split(&self, items: &[Item]) -> Result<Splits> {
        if self.0 < 2 {
            return Err(Error::new(ErrorKind::Argument, "must be at least 2").on("EveryNth"));
        }
        let (valid, train) = (0..items.len()).partition(|i| i % self.0 == 0);
        Ok(Splits { train, valid })
    }
}

fn main() -> Result<()> {
    let pictures = onecycle::vision::render_quickstart(&std::env::temp_dir().join("onecycle-examples"), 42)?;
    let dblock = DataBlock::new((ImageBlock, CategoryBlock))
        .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name"))
        .splitter(EveryNth(5))
        .item_tfms((Resize::new(40), Cutout { share: 0.4 }))
        .bs(32);
    print!("{}", dblock.summary(&pictures)?);

    let dls = dblock.dataloaders(&pictures)?;
    println!("\n{} train, {} validate", dls.train.n_items(), dls.valid.n_items());

    let mut learn = vision_learner(&dls, resnet18)?.metrics(accuracy);
    learn.fit_one_cycle(2, 3e-3)?;
    println!("accuracy {:.2}", learn.recorder().last("accuracy").unwrap_or(f64::NAN));

    // A batch seen twice is the same twice: the draws depend on seed, epoch and item, not on when they happen.
    let first = |epoch| dls.train.epoch(epoch).next().expect("a training set has a batch").map(|b| b.bytes.to_vec());
    assert_eq!(first(0)?, first(0)?);
    assert_ne!(first(0)?, first(1)?);
    Ok(())
}

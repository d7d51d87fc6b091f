//! What happens to pictures on their way into a batch.
//!
//! There are two kinds, as in fastai:
//!
//! * an [`ItemTransform`] works on one picture on the CPU, in a worker thread, in bytes (`Resize`). After all of them, the
//!   pictures of a batch must have one size;
//! * [`BatchTransforms`] work on a whole batch on the device, in floats (`aug_transforms`). They are one object, not a
//!   list, because they run as one kernel; the names that `summary` prints are its [`Stage`]s.
//!
//! Both are told for which [`Subset`] they run: most random transforms act in training only. Random numbers come from the
//! generator handed in, whose address is (seed, epoch, item): a transform that draws from anywhere else breaks the
//! promise that a run can be repeated with any number of workers.
//!
//! A transform of one's own is a struct and a few lines:
//!
//! ```
//! use onecycle::{Result, data::{ItemTransform, Picture, Subset}, rng::Rng};
//!
//! /// Mirrors half of the training pictures.
//! #[derive(Debug)]
//! struct FlipItem;
//!
//! impl ItemTransform for FlipItem {
//!     fn describe(&self) -> String {
//!         "FlipItem -- {'p': 0.5}".into()
//!     }
//!     fn order(&self) -> i32 {
//!         0
//!     }
//!     fn apply(&self, mut picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
//!         if subset == Subset::Train && rng.chance(0.5) {
//!             for row in picture.rgb.chunks_exact_mut(picture.width * 3) {
//!                 row.reverse();
//!                 row.chunks_exact_mut(3).for_each(|rgb| rgb.reverse());
//!             }
//!         }
//!         Ok(picture)
//!     }
//!     fn settings(&self) -> serde_json::Value {
//!         serde_json::json!({ "name": "FlipItem" })
//!     }
//! }
//! ```

use super::Picture;
use crate::ops::augment::{Augment, Statistics, augment};
use crate::rng::Rng;
use crate::{DType, Result, Tensor};
use std::fmt::Debug;
use std::sync::Arc;

/// Which set an item belongs to, and so how transforms treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subset {
    /// The items that weights learn from: random transforms act.
    Train,
    /// The items that are only looked at: everything is deterministic.
    Valid,
}

/// A transform of one picture, on the CPU.
pub trait ItemTransform: Send + Sync + Debug {
    /// As `summary` shows it: the class name alone, or ``Class -- {dict}`` with the settings as Python prints them.
    fn describe(&self) -> String;

    /// The place in the pipeline: transforms run by rising order, those of equal order as given. fastai: flips 0, crops
    /// and `Resize` 1.
    fn order(&self) -> i32;

    /// The transformed picture. `rng` is the item's own stream of random numbers.
    ///
    /// # Errors
    /// The picture does not allow the transform; the loader adds the path.
    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture>;

    /// The settings as JSON, with a `"name"`: kept in an exported model, which rebuilds the transform from them.
    fn settings(&self) -> serde_json::Value;
}

impl<T: ItemTransform + ?Sized> ItemTransform for Arc<T> {
    fn describe(&self) -> String {
        (**self).describe()
    }
    fn order(&self) -> i32 {
        (**self).order()
    }
    fn apply(&self, picture: Picture, subset: Subset, rng: &mut Rng) -> Result<Picture> {
        (**self).apply(picture, subset, rng)
    }
    fn settings(&self) -> serde_json::Value {
        (**self).settings()
    }
}

/// One named step of the batch transforms, for `summary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// ``Class -- {dict}`` as fastai prints it.
    pub description: String,
    /// Height of the pictures after the step.
    pub height: usize,
    /// Width of the pictures after the step.
    pub width: usize,
}

/// What happens to a batch on the device, from bytes to what the model sees.
pub trait BatchTransforms: Send + Sync + Debug {
    /// The named steps in running order for a batch of `input` = (height, width), beginning with `IntToFloatTensor`.
    fn stages(&self, input: (usize, usize)) -> Vec<Stage>;

    /// A batch of bytes `[N, H, W, 3]` as the floats `[N, h, w, 3]` that the model sees. Random changes act on the training
    /// subset only, and draw from the addresses that `draws` names.
    ///
    /// # Errors
    /// `bytes` is no such batch.
    fn apply(&self, bytes: &Tensor, subset: Subset, draws: &BatchDraws<'_>, dtype: DType) -> Result<Tensor>;

    /// Height and width after all steps.
    fn output_size(&self, input: (usize, usize)) -> (usize, usize);

    /// The statistics of the final normalisation, if there is one: showing a batch undoes it.
    fn statistics(&self) -> Option<Statistics>;

    /// The settings as JSON: kept in an exported model.
    fn settings(&self) -> serde_json::Value;
}

/// The addresses of a batch's random numbers: [`Rng::at`]`(seed, Purpose::BatchTransform, epoch, item)`.
#[derive(Clone, Copy, Debug)]
pub struct BatchDraws<'a> {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// Each picture's index in the whole list of items.
    pub items: &'a [usize],
}

/// Bytes to floats in 0..1 and nothing else: what an `ImageBlock` brings along, and the first stage of all others.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntToFloat;

impl IntToFloat {
    /// The stage's description.
    pub const DESCRIPTION: &'static str = "IntToFloatTensor -- {'div': 255.0, 'div_mask': 1}";
}

impl BatchTransforms for IntToFloat {
    fn stages(&self, (height, width): (usize, usize)) -> Vec<Stage> {
        vec![Stage { description: IntToFloat::DESCRIPTION.into(), height, width }]
    }

    fn apply(&self, bytes: &Tensor, _: Subset, _: &BatchDraws<'_>, dtype: DType) -> Result<Tensor> {
        augment(bytes, &Augment::default(), dtype)
    }

    fn output_size(&self, input: (usize, usize)) -> (usize, usize) {
        input
    }

    fn statistics(&self) -> Option<Statistics> {
        None
    }

    fn settings(&self) -> serde_json::Value {
        serde_json::json!({ "name": "IntToFloatTensor" })
    }
}

/// One item transform, a tuple of up to four, or a `Vec`: what `DataBlock::item_tfms` takes.
pub trait IntoItemTransforms {
    /// The transforms in the order given.
    fn into_list(self) -> Vec<Arc<dyn ItemTransform>>;
}

impl<T: ItemTransform + 'static> IntoItemTransforms for T {
    fn into_list(self) -> Vec<Arc<dyn ItemTransform>> {
        vec![Arc::new(self)]
    }
}

impl<T: ItemTransform + 'static> IntoItemTransforms for Vec<T> {
    fn into_list(self) -> Vec<Arc<dyn ItemTransform>> {
        self.into_iter().map(|t| Arc::new(t) as _).collect()
    }
}

macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: ItemTransform + 'static),+> IntoItemTransforms for ($($name,)+) {
            #[allow(non_snake_case)]
            fn into_list(self) -> Vec<Arc<dyn ItemTransform>> {
                let ($($name,)+) = self;
                vec![$(Arc::new($name)),+]
            }
        }
    };
}
tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);

/// The order in which a list runs: grouped by class (the last of a class wins, at the place of the first), then sorted by
/// [`ItemTransform::order`], as fastai merges transforms.
pub(crate) fn arrange(list: Vec<Arc<dyn ItemTransform>>) -> Vec<Arc<dyn ItemTransform>> {
    let class = |t: &Arc<dyn ItemTransform>| t.describe().split(" -- ").next().unwrap_or_default().to_owned();
    let mut kept: Vec<Arc<dyn ItemTransform>> = Vec::new();
    for transform in list {
        match kept.iter_mut().find(|k| class(k) == class(&transform)) {
            Some(first) => *first = transform,
            None => kept.push(transform),
        }
    }
    kept.sort_by_key(|t| t.order());
    kept
}

/// Runs `transforms` on one picture.
pub(crate) fn run(
    transforms: &[Arc<dyn ItemTransform>],
    mut picture: Picture,
    subset: Subset,
    rng: &mut Rng,
) -> Result<Picture> {
    for transform in transforms {
        picture = transform.apply(picture, subset, rng)?;
    }
    Ok(picture)
}

//! Everything the article's code needs: `use onecycle::prelude::*;` stands for `from fastai.vision.all import *`.

pub use crate::data::{
    CategoryBlock, DataBlock, DataLoaders, EndSplitter, FuncSplitter, GrandparentSplitter, IndexSplitter,
    RandomSplitter, RegexLabeller, get_image_files, parent_label, using_attr,
};
pub use crate::learner::{
    Callback, Interpretation, Learner, Level, Predictor, Signal, Stop, accuracy, error_rate, load_learner,
    vision_learner,
};
pub use crate::nn::{resnet18, resnet34, resnet50, resnet101, resnet152};
pub use crate::ops::augment::IMAGENET_STATS;
pub use crate::optim::slice;
pub use crate::vision::{ImageBlock, RandomResizedCrop, Resize, ResizeMethod, aug_transforms};
pub use crate::{DType, Device, Error, ErrorKind, Result, Tensor};

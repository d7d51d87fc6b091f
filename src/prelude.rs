//! Everything the article's code needs: `use onecycle::prelude::*;` stands for `from fastai.vision.all import *`.

pub use crate::data::{
    CategoryBlock, ColReader, ColSplitter, DataBlock, DataLoaders, EndSplitter, FileSplitter, FuncSplitter,
    GrandparentSplitter, IndexSplitter, MaskSplitter, MultiCategoryBlock, RandomSplitter, RandomSubsetSplitter,
    RegexLabeller, RegressionBlock, Table, TrainTestSplitter, get_image_files, getter, parent_label, using_attr,
};
#[cfg(feature = "download")]
pub use crate::data::{URLs, untar_data};
pub use crate::learner::{
    BnFreeze, CSVLogger, Callback, CutMix, EarlyStopping, GetPreds, GradientAccumulation, GradientClip, Interpretation,
    Learner, Level, LoadOptions, MixUp, Predictor, ReduceLROnPlateau, SaveModel, Signal, Stop, Tta, accuracy,
    error_rate, load_learner, vision_learner,
};
pub use crate::nn::{Weights, resnet18, resnet34, resnet50, resnet101, resnet152};
pub use crate::ops::augment::IMAGENET_STATS;
pub use crate::optim::slice;
pub use crate::vision::{
    CropPad, DihedralItem, FlipItem, ImageBlock, ImageDataLoaders, RandomCrop, RandomResizedCrop, RatioResize, Resize,
    ResizeMethod, aug_transforms,
};
pub use crate::{DType, Device, Error, ErrorKind, Result, Tensor};

//! Chapter 5 of fastai as one Rust crate: an image classifier from the `DataBlock` that describes the data down to the
//! loops that multiply the numbers, with a small reverse-mode autograd between. There is no Python and no library of
//! kernels underneath; what a training step does is in these files, and the way down is short.
//!
//! ```no_run
//! use onecycle::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let dls = DataBlock::new((ImageBlock, CategoryBlock))
//!         .get_items(get_image_files)
//!         .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name"))
//!         .splitter(RandomSplitter::seed(42))
//!         .item_tfms(Resize::new(460))
//!         .batch_tfms(aug_transforms().size(224).min_scale(0.75))
//!         .dataloaders("pets/images")?;
//!     let mut learn = vision_learner(&dls, resnet34)?.pretrained(Weights::Default)?.metrics(error_rate);
//!     learn.fine_tune(2)?;
//!     let (breed, probabilities) = learn.predict("cat.jpg")?;
//!     println!("{breed}: {:.2}", probabilities.iter().copied().fold(0.0, f64::max));
//!     learn.export("pets.safetensors")
//! }
//! ```
//!
//! # From the API to a kernel in three jumps
//!
//! Start at [`Learner::fit_one_cycle`](learner::Learner::fit_one_cycle). It makes a schedule of learning rates and momenta
//! and enters the loop of `learner/fit.rs`, which fits on one screen: a fit is epochs, an epoch is a training pass and a
//! validation pass, a pass is batches, a training batch is forward, loss, backward, step. Everything else that a fit does
//! (recording, scheduling, printing, stopping) is a [callback](learner::callback) which the loop calls at named moments.
//!
//! **First jump: into a layer.** The line `self.model.forward(&x, cx)` walks a [`nn::Sequential`]. Its parts are
//! [`nn::Conv2d`] and [`nn::BatchNorm`], arranged by [`nn::resnet`]. A layer owns its parameters and nothing else: it holds
//! no training flag (that travels in the [`nn::Context`]) and does no arithmetic. `Conv2d::forward` is one call of an
//! operation. [`BatchNorm::forward_fused`](nn::BatchNorm::forward_fused) is one call too, although it normalises, adds the
//! shortcut of a residual block and clips at zero: the three are limited by memory, so one pass does them all.
//!
//! **Second jump: into an operation.** [`ops::conv2d`](mod@ops::conv2d) opens with the mathematics, forward and backward.
//! The function of that name checks shapes, asks for memory, branches by device, and enters the result into the graph with
//! [`autograd::record`], together with what the way back will need: the input if the weight wants a gradient, the weight if
//! the input wants one, nothing where nobody asks. The struct beside it is the derivative.
//!
//! **Third jump: into the kernel.** On the CPU `ops/conv2d/cpu.rs` computes. All three products of a convolution are matrix
//! products whose rows are gathered while they are read, so no column matrix is ever stored. The inner loops are in
//! [`device::cpu::gemm`], written once for every vector width and chosen when the program starts. On a GPU `ops/conv2d/cuda.rs`
//! launches `kernels/conv2d.cu`, which opens with the same mathematics; the tests run it in an emulator on the CPU.
//!
//! The way back needs no fourth jump. [`autograd::backward`] visits the graph's nodes, newest first, and calls the
//! derivative that each operation left there. Gradients end in the slots of the [parameters](nn::Parameter), and
//! [`optim::Optimizer::step`] takes them out again. `docs/tour.md` in the repository walks the same way with a picture in
//! hand, file by file.
//!
//! # The layers
//!
//! Arrows point down only: a lower layer never names a higher one, and `data` and `nn` do not know each other. A test
//! (`tests/house.rs`) reads the sources and says so when it is no longer true.
//!
//! | layer | what is in it |
//! |---|---|
//! | `main.rs`, `cli` | arguments and printing, nothing else (feature `cli`) |
//! | [`learner`] | `Learner`, the fit loop, callbacks, recorder, predictions, interpretation, export |
//! | [`vision`] | decoding, `Resize`, `aug_transforms`, `show_batch`, the quickstart's pictures |
//! | `plot` | charts, picture grids, the report (feature `plot`) |
//! | [`data`] | `DataBlock`, getters, labellers, splitters, transforms' traits, loaders |
//! | [`optim`] | Adam, SGD, RMSProp, parameter groups, schedules |
//! | [`nn`] | `Module`, layers, ResNet, heads, initial and pretrained weights, safetensors, `.pth` |
//! | [`ops`] | one room for each operation: mathematics, gradient, implementation |
//! | [`autograd`] | the graph, the walk back, the gradient check |
//! | [`tensor`] | `Tensor`, `Shape`, `DType` |
//! | [`device`] | memory, threads and vectors of the CPU; GPUs and their kernels; a report on what there is |
//! | `fetch` | downloads that resume, archives that are distrusted (feature `download`) |
//!
//! At the very bottom, for everybody: [`Error`], [`fs`] (files that are whole or not there) and [`rng`] (random numbers
//! with an address).
//!
//! # What to rely on
//!
//! - **One seed, one result.** A random number depends on what it is for (seed, purpose, epoch, item), never on which
//!   thread asks first. Sums have a fixed order. Two runs with one seed on one machine give the same bits.
//! - **No gradient is cut silently.** An operation without a derivative refuses a tensor that needs one.
//! - **Failures are values.** Where a user, a file or a device can fail there is a [`Result`] whose [`Error`] names the
//!   item and the remedy.
//! - **Shapes are values too.** A [`Tensor`] has no type parameters; what doesn't fit is an error that names the operation.
//!
//! # Features
//!
//! `cli` (the program), `plot` (figures and the report), `download` (`untar_data`, and pretrained weights from the network) and
//! `checkpoint` (fits that survive their process) are on by default; `tensorboard` (its event files, by a callback) and `onnx` (models
//! for other runtimes) are off. `default-features = false` leaves the trainer: it prints nothing, knows no network and opens no files
//! but those it is asked for. `examples/embed.rs` uses it that way.
#![deny(missing_docs)]

pub mod autograd;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod device;
mod error;
#[cfg(feature = "download")]
pub mod fetch;
pub mod fs;
pub mod learner;
pub mod nn;
pub mod ops;
pub mod optim;
#[cfg(feature = "plot")]
pub mod plot;
pub mod prelude;
pub mod rng;
pub mod tensor;
pub mod vision;

pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use tensor::{DType, Tensor};

/// The prose outside the sources is compiled with them.
#[cfg(doctest)]
mod prose {
    #[cfg(feature = "download")]
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/tour.md")]
    struct Tour;
}

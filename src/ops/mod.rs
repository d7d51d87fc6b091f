//! Operations, one room each.
//!
//! A folder here is one differentiable operation: `mod.rs` opens with its mathematics, forward and backward, checks the
//! operands, branches by device and enters the result into the graph; `cpu.rs` is the plain implementation for the processor, and
//! `cuda.rs` launches the kernels of `kernels/*.cu` (`kernels/README.md` says how to add one). To add an operation: make its folder, add its line below, and give it samples
//! in `tests/gradients.rs`; the suite fails for an operation without a gradient check.
//!
//! Where a batch goes, in this order: [`mod@conv2d`], [`mod@batch_norm`] (with ReLU and the residual addition),
//! [`mod@max_pool`], [`mod@concat_pool`], [`mod@flatten`], [`mod@dropout`], [`mod@linear`], [`mod@cross_entropy`], back
//! through all of them, and [`mod@optimizer_step`].

pub mod add;
pub mod augment;
pub mod batch_norm;
pub mod concat_pool;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
pub mod flatten;
pub mod gradient_norm;
pub mod ladder;
pub mod linear;
pub mod max_pool;
pub mod mix;
pub mod norm_pool;
pub mod optimizer_step;
pub mod pointwise_loss;
pub mod relu;
mod rounded;
pub mod rows;
pub mod unscale;

pub use add::add;
pub use augment::augment;
pub use batch_norm::batch_norm;
pub use concat_pool::concat_pool;
pub use conv2d::conv2d;
pub use cross_entropy::{count_correct, cross_entropy, softmax, weighted_cross_entropy};
pub use dropout::dropout;
pub use flatten::flatten;
pub use gradient_norm::{clip_gradients, gradient_norm};
pub use linear::linear;
pub use max_pool::max_pool;
pub use mix::{cut_mix, mix_up};
pub use norm_pool::norm_pool;
pub use optimizer_step::optimizer_step;
pub use pointwise_loss::pointwise_loss;
pub use relu::relu;
pub use rows::{put_rows, take_rows};
pub use unscale::unscale;

/// The structs that go to kernels by value, for a test that compares them with the kernels' own.
#[doc(hidden)]
pub fn kernel_layouts() -> Vec<crate::device::cuda::launch::Layout> {
    vec![
        augment::cuda::Augment::layout(),
        augment::cuda::Erased::layout(),
        augment::cuda::Light::layout(),
        augment::cuda::Rect::layout(),
        augment::cuda::Resample::layout(),
        augment::cuda::Sample::layout(),
        batch_norm::cuda::Norm::layout(),
        conv2d::cuda::Conv::layout(),
        cross_entropy::cuda::CrossEntropy::layout(),
        dropout::cuda::Draw::layout(),
        dropout::cuda::Dropout::layout(),
        gradient_norm::cuda::Gradient::layout(),
        max_pool::cuda::MaxPool::layout(),
        mix::cuda::Cut::layout(),
        mix::cuda::CutMix::layout(),
        optimizer_step::cuda::Piece::layout(),
        optimizer_step::cuda::Update::layout(),
        pointwise_loss::cuda::PointwiseLoss::layout(),
        unscale::cuda::Scaled::layout(),
    ]
}

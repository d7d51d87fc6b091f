//! What a norm and the convolutions around it tell each other, as notes on the tensors that pass between them.
//!
//! Module code stays textbook: `norm(conv(x))`, and backward each node by itself. But a kernel that has a tile of a convolution's results
//! in its registers can take the sums that the norm would read all of it for. So operations leave what they know on a tensor
//! ([`Tensor::noted`]), and whoever receives it may use it or not; a tensor that is written to loses its note.
//!
//! | from | to | note |
//! |---|---|---|
//! | convolution, forward | norm, forward | [`Sums`]: its statistics are nearly done |
//! | norm with ReLU, forward | convolution, forward and then backward | [`Origin`]: how its input was made |
//! | convolution, backward | norm, backward | [`Reduced`]: the gradient is masked, and the sums are nearly done |
//!
//! The last is right even where a tensor went to several operations: a gradient that is added to another loses its note, and to mask
//! twice does nothing.

use crate::tensor::Tensor;
use std::sync::Arc;

/// Of a tensor `[.., C]`: the sums of its numbers and of their squares over tiles of rows, `[tiles, 2, C]` f32.
pub(crate) struct Sums(pub Tensor);

/// Of a tensor that a norm with ReLU has made: from what.
pub(crate) struct Origin {
    pub x: Tensor,
    pub mean: Tensor,
    pub invstd: Tensor,
    pub weight: Tensor,
    pub bias: Tensor,
    /// Something was added before the ReLU, so that only the output tells where it clipped.
    pub residual: bool,
}

/// Of a gradient that goes to the norm of `origin`: where the ReLU clipped it is 0, and these are its sums, `[tiles, 2, C]` f32.
pub(crate) struct Reduced {
    pub origin: Arc<Origin>,
    pub sums: Tensor,
}

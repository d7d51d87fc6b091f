//! Networks: parameters, layers, ResNet, heads, and the files they are kept in.
//!
//! A [`Module`] turns a tensor into a tensor and can list what it is made of, in the order in which it was put together.
//! That list gives PyTorch's state names (`0.4.1.bn2.weight`), the parameter order, `learn.summary()`'s rows and the state
//! that a checkpoint holds. What a forward pass needs besides its input travels in a [`Context`]: training or evaluating, and
//! where dropout's random numbers come from. There is no hidden training flag in the modules.
//!
//! ```
//! use onecycle::nn::{Context, Linear, Module, Sequential};
//! use onecycle::{DType, Device, Tensor};
//! # fn main() -> onecycle::Result<()> {
//! let net = Sequential::new().push(Linear::new(4, 8, true)).push(Linear::new(8, 2, false));
//! net.init_with(42)?; // otherwise the weights are zeros
//! let x = Tensor::full(1.0, [3, 4], DType::F32, Device::Cpu)?;
//! let y = net.forward(&x, &Context::eval())?;
//! assert_eq!(y.shape()[..], [3, 2]);
//! assert_eq!(net.state().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["0.weight", "0.bias", "1.weight"]);
//! # Ok(()) }
//! ```

mod context;
mod head;
mod init;
mod layers;
mod module;
pub(crate) mod parameter;
pub mod pretrained;
pub mod pth;
pub mod resnet;
pub mod safetensors;
mod sequential;
pub mod summary;

pub use context::Context;
pub(crate) use head::init_head;
pub use head::{HeadOptions, create_head};
#[cfg(feature = "onnx")]
pub(crate) use layers::BATCH_NORM_EPS;
pub use layers::{AdaptiveConcatPool2d, BatchNorm, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU};
pub use module::{Leaf, Module, ModuleId, State, StateKind};
pub use parameter::{Buffer, Param, Parameter, Role};
pub use pretrained::{Pretrained, Weights};
pub use resnet::{Arch, resnet18, resnet34, resnet50, resnet101, resnet152};
pub use sequential::Sequential;

//! ResNet (He, Zhang, Ren, Sun: *Deep Residual Learning for Image Recognition*, 2015), as torchvision builds it.
//!
//! A stem (7x7 convolution with stride 2, norm, ReLU, 3x3 max pool with stride 2) takes 224 pixels to 56. Four stages of
//! residual blocks follow; from the second on, the first block of a stage halves the size and doubles the channels. A block adds
//! its input to its output, so that a deep network starts as a shallow one. Where size or channels change, the input goes
//! through a 1x1 convolution and a norm (`downsample`).
//!
//! | net | block | blocks | features | parameters with 37 classes |
//! |---|---|---|---|---|
//! | [`resnet18`] | [`BasicBlock`] | 2, 2, 2, 2 | 512 | 11,722,816 |
//! | [`resnet34`] | [`BasicBlock`] | 3, 4, 6, 3 | 512 | 21,830,976 |
//! | [`resnet50`] | [`Bottleneck`] | 3, 4, 6, 3 | 2048 | 25,633,344 |
//! | [`resnet101`] | [`Bottleneck`] | 3, 4, 23, 3 | 2048 | 44,625,472 |
//! | [`resnet152`] | [`Bottleneck`] | 3, 8, 36, 3 | 2048 | 60,269,120 |
//!
//! [`Arch::body`] is the network without its last pool and classifier: modules `0` conv1, `1` bn1, `2` relu, `3` maxpool, `4` to
//! `7` the stages. fastai cuts it there and puts its own head ([`create_head`](super::create_head)) on top.

use super::{BatchNorm, Context, Conv2d, MaxPool2d, Module, Param, ReLU, Sequential};
use crate::{Error, ErrorKind, Result, Tensor};

/// An architecture, before its weights exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arch {
    /// Its name, such as `resnet34`.
    pub name: String,
    /// Bottleneck blocks (50 layers and more) or basic ones.
    pub bottleneck: bool,
    /// Blocks in each stage.
    pub blocks: [usize; 4],
    /// Planes of each stage; the stem has as many as the first.
    pub widths: [usize; 4],
}

const STANDARD: [(&str, bool, [usize; 4]); 5] = [
    ("resnet18", false, [2, 2, 2, 2]),
    ("resnet34", false, [3, 4, 6, 3]),
    ("resnet50", true, [3, 4, 6, 3]),
    ("resnet101", true, [3, 4, 23, 3]),
    ("resnet152", true, [3, 8, 36, 3]),
];

fn standard(index: usize) -> Arch {
    let (name, bottleneck, blocks) = STANDARD[index];
    Arch { name: name.into(), bottleneck, blocks, widths: [64, 128, 256, 512] }
}

/// ResNet with 18 layers.
pub fn resnet18() -> Arch {
    standard(0)
}
/// ResNet with 34 layers, the article's.
pub fn resnet34() -> Arch {
    standard(1)
}
/// ResNet with 50 layers, in bottleneck blocks.
pub fn resnet50() -> Arch {
    standard(2)
}
/// ResNet with 101 layers.
pub fn resnet101() -> Arch {
    standard(3)
}
/// ResNet with 152 layers.
pub fn resnet152() -> Arch {
    standard(4)
}

impl Arch {
    /// The architecture called `name`: `resnet34`, or `resnet34-w32` for one whose stem has 32 channels instead of 64 and
    /// whose stages are thinner in proportion (see [`Arch::slim`]).
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] listing the names there are.
    pub fn by_name(name: &str) -> Result<Arch> {
        let (base, width) = match name.split_once("-w") {
            Some((base, width)) => (base, width.parse().ok().filter(|w| (4..=512).contains(w) && w % 4 == 0)),
            None => (name, Some(64)),
        };
        let found = STANDARD.iter().position(|(known, ..)| *known == base);
        match (found, width) {
            (Some(found), Some(64)) => Ok(standard(found)),
            (Some(found), Some(width)) => Ok(standard(found).slim(width)),
            _ => {
                let names = STANDARD.map(|(known, ..)| known).join(", ");
                let remedy =
                    format!("there are {names}; a suffix such as -w32 makes one thinner (4 to 512, a multiple of 4)");
                Err(Error::new(ErrorKind::Argument, "is no architecture").on(name).remedy(remedy))
            }
        }
    }

    /// The same network with `width` channels in the stem, and 1, 2, 4 and 8 times as many planes in its stages: half the width
    /// is a quarter of the arithmetic.
    pub fn slim(self, width: usize) -> Arch {
        let name = format!("{}-w{width}", self.name);
        Arch { name, widths: [1, 2, 4, 8].map(|n| n * width), ..self }
    }

    /// Channels of the body's output: 512, or 2048 with bottlenecks.
    pub fn features(&self) -> usize {
        self.widths[3] * self.expansion()
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }

    /// The network up to the last stage, for pictures `[N, H, W, 3]`: `[N, H/32, W/32, features]`.
    pub fn body(&self) -> Sequential {
        let stem = Sequential::new()
            .push(Conv2d::new(3, self.widths[0], 7, 2, 3))
            .push(BatchNorm::new_2d(self.widths[0]))
            .push_relu()
            .push_max_pool(MaxPool2d::new(3, 2, 1));
        let mut inputs = self.widths[0];
        (0..4).fold(stem, |body, stage| {
            let planes = self.widths[stage];
            let blocks = (0..self.blocks[stage]).fold(Sequential::new(), |blocks, b| {
                let stride = if stage > 0 && b == 0 { 2 } else { 1 };
                let from = std::mem::replace(&mut inputs, planes * self.expansion());
                if self.bottleneck {
                    blocks.push(Bottleneck::new(from, planes, stride))
                } else {
                    blocks.push(BasicBlock::new(from, planes, stride))
                }
            });
            body.push(blocks)
        })
    }
}

/// The shortcut's projection where a block changes size or channels.
fn downsample(inputs: usize, outputs: usize, stride: usize) -> Option<Sequential> {
    let needed = stride != 1 || inputs != outputs;
    needed.then(|| Sequential::new().push(Conv2d::new(inputs, outputs, 1, stride, 0)).push(BatchNorm::new_2d(outputs)))
}

fn shortcut(x: &Tensor, downsample: Option<&Sequential>, cx: &Context) -> Result<Tensor> {
    downsample.map_or_else(|| Ok(x.clone()), |d| d.forward(x, cx))
}

/// Two 3x3 convolutions and a shortcut: `relu(x + bn2(conv2(relu(bn1(conv1(x))))))`.
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    relu: ReLU,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<Sequential>,
}

impl BasicBlock {
    /// From `inputs` to `planes` channels; `stride` sits on the first convolution.
    pub fn new(inputs: usize, planes: usize, stride: usize) -> BasicBlock {
        BasicBlock {
            conv1: Conv2d::new(inputs, planes, 3, stride, 1),
            bn1: BatchNorm::new_2d(planes),
            relu: ReLU::new(),
            conv2: Conv2d::new(planes, planes, 3, 1, 1),
            bn2: BatchNorm::new_2d(planes),
            downsample: downsample(inputs, planes, stride),
        }
    }
}

impl Module for BasicBlock {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_relu(&y, cx)?;
        self.relu.ran_fused(&y, cx);
        let y = self.conv2.forward(&y, cx)?;
        let identity = shortcut(x, self.downsample.as_ref(), cx)?;
        self.bn2.forward_fused(&y, Some(&identity), true, cx)
    }

    fn kind(&self) -> &'static str {
        "BasicBlock"
    }

    fn children(&self) -> Vec<(String, &dyn Module)> {
        let parts: [(&str, &dyn Module); 5] = [
            ("conv1", &self.conv1),
            ("bn1", &self.bn1),
            ("relu", &self.relu),
            ("conv2", &self.conv2),
            ("bn2", &self.bn2),
        ];
        named(&parts, self.downsample.as_ref())
    }
}

/// 1x1, 3x3 and 1x1 convolutions and a shortcut. The stride sits on the 3x3 (torchvision's "v1.5").
pub struct Bottleneck {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    conv3: Conv2d,
    bn3: BatchNorm,
    relu: ReLU,
    downsample: Option<Sequential>,
}

impl Bottleneck {
    /// From `inputs` to `4 * planes` channels through `planes`.
    pub fn new(inputs: usize, planes: usize, stride: usize) -> Bottleneck {
        let outputs = 4 * planes;
        Bottleneck {
            conv1: Conv2d::new(inputs, planes, 1, 1, 0),
            bn1: BatchNorm::new_2d(planes),
            conv2: Conv2d::new(planes, planes, 3, stride, 1),
            bn2: BatchNorm::new_2d(planes),
            conv3: Conv2d::new(planes, outputs, 1, 1, 0),
            bn3: BatchNorm::new_2d(outputs),
            relu: ReLU::new(),
            downsample: downsample(inputs, outputs, stride),
        }
    }
}

impl Module for Bottleneck {
    fn forward(&self, x: &Tensor, cx: &Context) -> Result<Tensor> {
        let y = self.conv1.forward(x, cx)?;
        let y = self.bn1.forward_relu(&y, cx)?;
        self.relu.ran_fused(&y, cx);
        let y = self.conv2.forward(&y, cx)?;
        let y = self.bn2.forward_relu(&y, cx)?;
        let y = self.conv3.forward(&y, cx)?;
        let identity = shortcut(x, self.downsample.as_ref(), cx)?;
        let y = self.bn3.forward_fused(&y, Some(&identity), true, cx)?;
        // One ReLU serves all three places; the last call is the one whose shape a summary shows.
        self.relu.ran_fused(&y, cx);
        Ok(y)
    }

    fn kind(&self) -> &'static str {
        "Bottleneck"
    }

    fn children(&self) -> Vec<(String, &dyn Module)> {
        let parts: [(&str, &dyn Module); 7] = [
            ("conv1", &self.conv1),
            ("bn1", &self.bn1),
            ("conv2", &self.conv2),
            ("bn2", &self.bn2),
            ("conv3", &self.conv3),
            ("bn3", &self.bn3),
            ("relu", &self.relu),
        ];
        named(&parts, self.downsample.as_ref())
    }
}

fn named<'a>(parts: &[(&str, &'a dyn Module)], downsample: Option<&'a Sequential>) -> Vec<(String, &'a dyn Module)> {
    let parts = parts.iter().map(|(name, part)| (name.to_string(), *part));
    parts.chain(downsample.map(|d| ("downsample".to_string(), d as &dyn Module))).collect()
}

/// fastai's parameter groups of a `Sequential(body, head)`: stem to `layer2`, `layer3` and `layer4`, the head. Lower groups
/// get lower learning rates, and are the ones that freezing stops.
pub fn param_groups(model: &dyn Module) -> Vec<Vec<(String, Param)>> {
    let mut groups: Vec<Vec<(String, Param)>> = vec![Vec::new(); 3];
    for (name, p) in model.named_parameters() {
        let group = match name.split('.').take(2).collect::<Vec<_>>()[..] {
            ["0", "6" | "7"] => 1,
            ["0", ..] => 0,
            _ => 2,
        };
        groups[group].push((name, p));
    }
    groups
}

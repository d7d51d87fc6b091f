//! Fresh weights.
//!
//! | parameter | numbers | source |
//! |---|---|---|
//! | convolution weight | normal, variance 2 / (K R S) | torchvision's ResNet: Kaiming, fan out |
//! | linear weight | normal, variance 2 / inputs | fastai's head: Kaiming, fan in |
//! | norm weight, norm bias, other bias | 1, 0, 0 | both; fastai's head then sets its norm biases to 0.001 |
//!
//! Every parameter has a stream of random numbers of its own, addressed by its place in the state: adding a layer at the end
//! leaves the others' weights as they were.

use super::parameter::{Param, Role};
use crate::rng::{Purpose, Rng};
use crate::{Device, Result, Tensor};

pub(super) fn initialize(parameters: &[(String, Param)], seed: u64) -> Result<()> {
    for (i, (name, p)) in parameters.iter().enumerate() {
        let value = p.value();
        let variance = match (p.role(), &value.shape()[..]) {
            (Role::Weight, &[k, r, s, _]) => 2.0 / (k * r * s) as f64,
            (Role::Weight, &[_, inputs]) => 2.0 / inputs as f64,
            (Role::Norm, _) if name.ends_with("weight") => {
                p.set(Tensor::full(1.0, value.shape(), value.dtype(), value.device())?)?;
                continue;
            }
            _ => {
                p.set(Tensor::zeros(value.shape(), value.dtype(), value.device())?)?;
                continue;
            }
        };
        let mut rng = Rng::at(seed, Purpose::Init, 0, i as u64);
        let std = variance.sqrt();
        let numbers: Vec<f64> = (0..value.numel()).map(|_| rng.normal() * std).collect();
        let fresh = Tensor::from_slice(&numbers, value.shape(), Device::Cpu)?.cast(value.dtype())?;
        p.set(fresh.to(value.device())?)?;
    }
    Ok(())
}

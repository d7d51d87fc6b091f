//! Which network, and how it computes.

use super::check::{self, Check};
use crate::cli::flags::{ModelFlags, WeightSet};
use crate::nn::Weights;
use crate::{Error, ErrorKind, Result};
use serde::Serialize;

/// A network and how it computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelSettings {
    /// A name that [`Arch::by_name`](crate::nn::Arch::by_name) knows.
    pub arch: String,
    /// Where the body's weights come from, as [`Weights`] reads it; none: fresh ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained: Option<String>,
    /// Which of torchvision's, when `pretrained` is `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightSet>,
    /// Weight decay.
    pub wd: f64,
    /// Whether to compute in bf16.
    pub bf16: bool,
    /// Whether to compute in f16; not both.
    pub fp16: bool,
}

impl ModelSettings {
    pub(super) fn resolve(flags: ModelFlags) -> Result<ModelSettings> {
        let ModelFlags { arch, pretrained, weights, no_pretrained: _, wd, bf16, fp16 } = flags;
        let settings = ModelSettings {
            arch: arch.unwrap_or_else(|| "resnet34".into()),
            pretrained: pretrained.or_else(|| weights.map(|_| "auto".into())),
            weights,
            wd: wd.unwrap_or(0.01),
            bf16: bf16.unwrap_or(false),
            fp16: fp16.unwrap_or(false),
        };
        check::architecture(&settings.arch)?;
        check::pretrained(settings.pretrained.as_deref(), weights)?;
        Check("--wd").within(settings.wd, 0.0, 10.0)?;
        if settings.bf16 && settings.fp16 {
            let error = Error::new(ErrorKind::Argument, "a network computes in bf16 or in f16").on("--bf16 and --fp16");
            return Err(error.remedy("leave one of them out"));
        }
        Ok(settings)
    }

    /// Whether activations are half precision.
    pub fn is_half(&self) -> bool {
        self.bf16 || self.fp16
    }

    /// The weights that the body begins with; none: fresh ones.
    pub fn body_weights(&self) -> Option<Weights> {
        Some(match (self.pretrained.as_deref()?, self.weights) {
            ("auto" | "default", Some(WeightSet::V1)) => Weights::V1,
            ("auto" | "default", Some(WeightSet::V2)) => Weights::V2,
            (from, _) => Weights::from(from),
        })
    }
}

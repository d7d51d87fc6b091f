//! Flags about the network, which several commands have.

use super::values::WeightSet;
use clap::Args;
use serde::Deserialize;

/// Flags about the network and how it computes.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Model and schedule")]
pub struct ModelFlags {
    /// Architecture: resnet18, resnet34, resnet50, resnet101, resnet152 [default: resnet34]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Begin with weights trained on ImageNet: auto (found or fetched), a .pth or safetensors file, a URL, or hf-hub:OWNER/NAME.
    /// --epochs then is fine_tune's: first the head alone, then everything. Without it the weights are fresh
    #[arg(long, value_name = "FILE|URL|auto")]
    pub pretrained: Option<String>,
    /// Which of torchvision's weights: v1, the article's, or v2, for 50 layers and more; implies --pretrained auto
    #[arg(long, value_enum)]
    pub weights: Option<WeightSet>,
    /// Begin with fresh weights, whatever the file of --config says
    #[arg(long, conflicts_with_all = ["pretrained", "weights"])]
    #[serde(skip)]
    pub no_pretrained: bool,
    /// Weight decay [default: 0.01]
    #[arg(long, allow_hyphen_values = true, value_name = "WD")]
    pub wd: Option<f64>,
    /// Compute in bf16: half the memory for activations; weights and sums stay in f32. For GPUs; the CPU only imitates it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub bf16: Option<bool>,
    /// Compute in f16, with the loss scaled; otherwise as --bf16
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[arg(conflicts_with = "bf16")]
    pub fp16: Option<bool>,
}

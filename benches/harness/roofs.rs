//! The roofs of this machine, measured in this process, and the floor under a case's time that they make.
//!
//! The floor is the larger of "all multiplications and additions at the machine's own rate" and "all bytes at its own copy rate". The first
//! is named by the instruction whose rate it is: a case that computes and reaches 90 % of `mma.sync` can only be made faster by another
//! instruction.

use onecycle::device::cpu;
use onecycle::device::cuda::{Gpu, ceilings};
use onecycle::ops::ladder::tf32;
use onecycle::{DType, Device, Result};

/// The two roofs that floors are made of, and what else was measured of a GPU.
#[derive(Clone, Copy)]
pub struct Roofs {
    /// Operations a second in the type of the cases.
    pub flops: f64,
    /// By which instruction.
    pub instruction: &'static str,
    /// Bytes a second.
    pub bytes: f64,
    /// All of a GPU's.
    pub gpu: Option<ceilings::Ceilings>,
}

/// A floor: seconds, and which roof it is.
pub struct Floor {
    pub seconds: f64,
    pub kind: String,
}

impl Roofs {
    pub fn measure(device: Device, dtype: DType, tiny: bool) -> Result<Roofs> {
        match device {
            Device::Cuda(gpu) => {
                let all = ceilings::measure(gpu, tiny)?;
                let (flops, instruction) = all.math(dtype, tf32());
                Ok(Roofs { flops, instruction, bytes: all.copy, gpu: Some(all) })
            }
            _ => {
                let cpu::ceilings::Ceilings { flops, bytes } = cpu::ceilings::measure();
                Ok(Roofs { flops, instruction: "fma", bytes, gpu: None })
            }
        }
    }

    /// Of one kernel, or of what is counted as one.
    pub fn floor(&self, flop: f64, bytes: f64) -> Floor {
        let (math, memory) = (flop / self.flops, bytes / self.bytes);
        let kind = if math > memory { format!("math: {}", self.instruction) } else { "mem".to_owned() };
        Floor { seconds: math.max(memory), kind }
    }

    /// Of kernels one after the other, some bound by `flop` and the others by `bytes`.
    pub fn floor_of_both(&self, flop: f64, bytes: f64) -> Floor {
        Floor { seconds: flop / self.flops + bytes / self.bytes, kind: "math + mem".to_owned() }
    }

    /// In words, for the heading.
    pub fn words(&self) -> String {
        let (math, copy) = (self.flops / 1e9, self.bytes / 1e9);
        let Some(all) = self.gpu else {
            return format!("{} {math:.0} GFLOP/s, copy {copy:.1} GB/s", self.instruction);
        };
        let tera = |rate: f64| rate / 1e12;
        format!(
            "copy {:.2} TB/s read and written, second-level cache {:.2} TB/s read, mma.sync {:.0} (f16), {:.0} (bf16), {:.0} (tf32) TFLOP/s, \
             fma {:.1} TFLOP/s, launch to launch {:.2} us, in a graph {:.2} us",
            tera(all.copy),
            tera(all.l2_read),
            tera(all.mma[0]),
            tera(all.mma[1]),
            tera(all.mma[2]),
            tera(all.fma),
            all.launch_gap * 1e6,
            all.graph_gap * 1e6
        )
    }

    /// As JSON.
    pub fn json(&self) -> String {
        let more = self.gpu.map_or(String::new(), |all| {
            format!(
                ",\"l2_read\":{:.4e},\"mma_f16\":{:.4e},\"mma_bf16\":{:.4e},\"mma_tf32\":{:.4e},\"fma\":{:.4e},\"launch_us\":{:.3},\"graph_launch_us\":{:.3}",
                all.l2_read,
                all.mma[0],
                all.mma[1],
                all.mma[2],
                all.fma,
                all.launch_gap * 1e6,
                all.graph_gap * 1e6
            )
        });
        format!(
            "{{\"copy\":{:.4e},\"math\":{:.4e},\"instruction\":\"{}\"{more}}}",
            self.bytes, self.flops, self.instruction
        )
    }
}

/// Bytes a second of a copy of 1 GiB: 2 GiB read and written.
pub fn copy_rate(gpu: Gpu, tiny: bool) -> Result<f64> {
    ceilings::copy_rate(gpu, if tiny { 1 << 20 } else { 1 << 30 })
}

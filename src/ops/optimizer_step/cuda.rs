//! Optimizer steps on a GPU, all parameters in one launch: `kernels/optimizer_step.cu`.

use super::{Item, Rule};
use crate::device::cuda::driver::{Address, Launch};
use crate::device::cuda::kernels::KernelId;
use crate::device::cuda::{Gpu, geometry, kernel};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// Numbers of a piece; `many.cuh` says the same.
const PIECE: usize = 65536;

geometry! {
    /// A block's part of one of many tensors.
    pub(crate) struct Piece {
        tensor: i32,
        count: i32,
        from: i64,
    }
}

geometry! {
    /// One parameter, and what depends on the step.
    pub(crate) struct Update {
        p: Address,
        d: Address,
        m: Address,
        v: Address,
        half: Address,
        kind: i32,
        rate: f32,
        decay: f32,
        coupled: f32,
        mom: f32,
        rest: f32,
        sqr_mom: f32,
        sqr_rest: f32,
        debias: f32,
        eps: f32,
    }
}

/// Cuts tensors of these sizes into pieces.
pub(crate) fn pieces(sizes: impl Iterator<Item = usize>) -> Vec<Piece> {
    let of = |(tensor, n): (usize, usize)| {
        (0..n).step_by(PIECE).map(move |from| Piece {
            tensor: tensor as i32,
            count: (n - from).min(PIECE) as i32,
            from: from as i64,
        })
    };
    sizes.enumerate().flat_map(of).collect()
}

pub(super) fn steps(gpu: Gpu, items: &mut [Item<'_>]) -> Result<()> {
    for (which, kernel) in
        [(0, kernel!("optimizer_step<0>")), (1, kernel!("optimizer_step<1>")), (2, kernel!("optimizer_step<2>"))]
    {
        launch(gpu, kernel, items.iter_mut().filter(|item| number(&item.step.rule) == which))?;
    }
    Ok(())
}

/// The rule's number in the kernel's template.
fn number(rule: &Rule) -> usize {
    match rule {
        Rule::Adam { .. } => 0,
        Rule::Sgd { .. } => 1,
        Rule::RmsProp { .. } => 2,
    }
}

fn launch<'i, 'a: 'i>(gpu: Gpu, kernel: KernelId, items: impl Iterator<Item = &'i mut Item<'a>>) -> Result<()> {
    let (mut updates, mut sizes) = (Vec::new(), Vec::new());
    for item in items {
        if item.p.dtype() != DType::F32 {
            return Err(Error::shape("optimizer_step", format!("parameters are f32 on a GPU, not {}", item.p.dtype()))
                .on(item.name));
        }
        sizes.push(item.p.numel());
        updates.push(update(item)?);
    }
    let pieces = pieces(sizes.into_iter());
    if pieces.is_empty() {
        return Ok(());
    }
    let (table, work) = (gpu.upload_table(&updates)?, gpu.upload_table(&pieces)?);
    // SAFETY: every piece lies inside its tensor, whose gradient, averages and copy have the same size; the tables live until the
    // kernel is done, because memory is reused in stream order.
    unsafe { gpu.launch(kernel, Launch::blocks(pieces.len()), (table.address(), work.address())) }
}

fn update(item: &mut Item<'_>) -> Result<Update> {
    let step = &item.step;
    let (needs_m, needs_v) = step.rule.needs();
    let at = |t: Option<&mut Tensor>| t.map_or(Ok(Address::NULL), Tensor::address_mut);
    let power = item.state.step.min(i32::MAX as u64) as i32;
    // As on the processor: everything that is the same for all numbers is computed in f64 and rounded once.
    let (rate, mom, rest, sqr_mom, debias, eps) = match step.rule {
        Rule::Adam { mom, sqr_mom, eps } => {
            let debias = 1.0 / (1.0 - sqr_mom.powi(power));
            (step.lr / (1.0 - mom.powi(power)), mom, 1.0 - mom, sqr_mom, debias, eps)
        }
        Rule::Sgd { mom } => (step.lr, mom, 1.0, 0.0, 1.0, 0.0),
        Rule::RmsProp { mom, sqr_mom, eps } => (step.lr, mom, 1.0, sqr_mom, 1.0, eps),
    };
    Ok(Update {
        p: item.p.address_mut()?,
        d: item.grad.address(),
        m: at(item.state.grad_avg.as_mut().filter(|_| needs_m))?,
        v: at(item.state.sqr_avg.as_mut().filter(|_| needs_v))?,
        kind: match item.half.as_ref().map(|h| h.dtype()) {
            Some(DType::F16) => 1,
            Some(_) => 2,
            None => 0,
        },
        half: at(item.half.as_deref_mut())?,
        rate: rate as f32,
        decay: if step.decoupled { (1.0 - step.lr * step.wd) as f32 } else { 1.0 },
        coupled: if step.decoupled { 0.0 } else { step.wd as f32 },
        mom: mom as f32,
        rest: rest as f32,
        sqr_mom: sqr_mom as f32,
        sqr_rest: (1.0 - sqr_mom) as f32,
        debias: debias as f32,
        eps: eps as f32,
    })
}

//! The table of a network's layers that fastai's `learn.summary()` prints.
//!
//! One picture is sent through in evaluation mode, and every module without children notes the shapes it saw. The rows come in the order in
//! which the modules were put together. A line of underscores and a new shape stand before a row whose module changes its
//! input's shape, unless the row above had that output already.

use super::{Context, Leaf, Module};
use crate::nn::module::count;
use crate::tensor::Shape;
use crate::{Device, Result, Tensor, autograd};
use std::fmt::Write;

/// Which release's layout to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// fastai today.
    #[default]
    Current,
    /// fastai at the end of 2020, as in the article: the title has the batch size only, and shapes are known of modules with
    /// weights only (the pool after the body shows `[]`).
    Legacy,
}

const RULE: usize = 76;

/// The table for a batch of `input` (`[N, H, W, C]`), up to and including the totals and the blank line after them.
///
/// # Errors
/// When the network can't take such pictures.
pub fn table(model: &dyn Module, input: &Shape, layout: Layout) -> Result<String> {
    let mut one = input.to_vec();
    let bs = std::mem::replace(&mut one[0], 1);
    let (dtype, device) = match model.named_parameters().first() {
        Some((_, p)) => (p.value().dtype(), p.value().device()),
        None => (crate::DType::F32, Device::Cpu),
    };
    let cx = Context::tracing();
    autograd::no_grad(|| model.forward(&Tensor::zeros(one, dtype, device)?, &cx))?;
    let trace = cx.into_trace();

    let of_batch = |shape: &Shape| -> Vec<String> {
        let rest = shape.nchw();
        std::iter::once(bs).chain(rest.into_iter().skip(1)).map(|d| d.to_string()).collect()
    };
    let title = match layout {
        Layout::Current => of_batch(input).join(" x "),
        Layout::Legacy => bs.to_string(),
    };
    let mut out = format!("{} (Input shape: {title})\n{}\n", model.kind(), "=".repeat(RULE));
    row(&mut out, ["Layer (type)", "Output Shape", "Param #", "Trainable"]);
    out += &format!("{}\n", "=".repeat(RULE));

    let mut above: Option<Vec<String>> = None;
    for Leaf { id, kind, parameters } in model.leaves() {
        let Some(seen) = trace.get(&id) else { continue };
        let weight = parameters.first();
        let shape = match layout {
            Layout::Legacy if weight.is_none() => Vec::new(),
            _ => of_batch(&seen.last_output),
        };
        let same = seen.input[1..] == seen.first_output[1..];
        if above.is_none() || (!same && above.as_ref() != Some(&shape)) {
            if above.is_some() {
                out += &format!("{}\n", "_".repeat(RULE));
            }
            let text = if shape.is_empty() { "[]".to_string() } else { shape.join(" x ") };
            let _ = writeln!(out, "{:20} {:20}", "", text.chars().take(19).collect::<String>());
        }
        let (number, trainable) = match weight {
            Some(w) => {
                let n: usize = parameters.iter().map(|p| p.numel()).sum();
                (n.to_string(), if w.is_trainable() { "True" } else { "False" })
            }
            None => Default::default(),
        };
        row(&mut out, [kind, "", &number, trainable]);
        above = Some(shape);
    }
    let parameters = model.named_parameters();
    let (total, trainable) = count(parameters.iter().map(|(_, p)| p.as_ref()));
    let _ = write!(
        out,
        "{}\n\nTotal params: {}\nTotal trainable params: {}\nTotal non-trainable params: {}\n\n",
        "_".repeat(RULE),
        thousands(total),
        thousands(trainable),
        thousands(total - trainable)
    );
    Ok(out)
}

fn row(out: &mut String, cells: [&str; 4]) {
    let _ = writeln!(out, "{:20} {:20} {:10} {:10}", cells[0], cells[1], cells[2], cells[3]);
}

fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}

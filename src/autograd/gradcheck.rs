//! Is a derivative right? The answer without trusting anybody's derivation.
//!
//! [`gradcheck`] runs a function in f64, once backwards for its gradient, then twice for every input number, moved a little
//! up and down: the central difference `(f(x + h) - f(x - h)) / 2h` errs by about `h²`, so at `h = 1e-5` the two agree to
//! seven or more digits or the derivative is wrong. The output may have any shape: it is multiplied by fixed pseudo-random
//! numbers and summed, so that no element's error can hide behind another's.

use super::{GradSlot, backward_with, no_grad};
use crate::rng::{Purpose, Rng};
use crate::tensor::Tensor;
use crate::{DType, Error, ErrorKind, Result};

/// Compares the gradient of `f` with central differences at `inputs` (all f64), for every element of every input.
///
/// # Errors
/// [`ErrorKind::Autograd`] naming the input, the element and both numbers where they differ by more than `tolerance`
/// (relative to the larger of 1 and their size); whatever `f` fails with.
pub fn gradcheck(inputs: &[Tensor], tolerance: f64, f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let slots: Vec<_> = inputs.iter().map(|_| GradSlot::new()).collect();
    let leaves: Vec<Tensor> = slots.iter().zip(inputs).map(|(slot, t)| slot.leaf(t)).collect();
    let y = f(&leaves)?;
    let mut rng = Rng::at(1, Purpose::Init, 0, 0);
    let weights: Vec<f64> = (0..y.numel()).map(|_| rng.range(0.5, 1.5)).collect();
    backward_with(&y, Tensor::from_slice(&weights, y.shape(), y.device())?)?;
    let value = |at: &[Tensor]| -> Result<f64> {
        let y = no_grad(|| f(at))?;
        Ok(y.to_vec::<f64>()?.iter().zip(&weights).map(|(y, w)| y * w).sum())
    };
    const H: f64 = 1e-5;
    for (i, (input, slot)) in inputs.iter().zip(&slots).enumerate() {
        if input.dtype() != DType::F64 {
            return Err(Error::shape("gradcheck", format!("input {i} is {}, not f64", input.dtype())));
        }
        let values = input.to_vec::<f64>()?;
        let grad = match slot.get() {
            Some(grad) => grad.to_vec::<f64>()?,
            None => vec![0.0; values.len()],
        };
        for j in 0..values.len() {
            let at = |v: f64| -> Result<f64> {
                let mut moved = values.clone();
                moved[j] = v;
                let mut all = inputs.to_vec();
                all[i] = Tensor::from_slice(&moved, input.shape(), input.device())?;
                value(&all)
            };
            let numeric = (at(values[j] + H)? - at(values[j] - H)?) / (2.0 * H);
            let error = (numeric - grad[j]).abs() / numeric.abs().max(grad[j].abs()).max(1.0);
            if error.is_nan() || error > tolerance {
                let message = format!("input {i}, element {j}: backward says {}, differences say {numeric}", grad[j]);
                return Err(Error::new(ErrorKind::Autograd, message).on("gradcheck"));
            }
        }
    }
    Ok(())
}

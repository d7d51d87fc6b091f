//! Reverse-mode differentiation: a graph that grows as operations run, and one walk back through it.
//!
//! An operation on a tensor that needs a gradient appends a [`Node`]: which nodes its inputs came from, and a [`Backward`]
//! that holds what the operation saved and knows its derivative. [`backward`] visits the nodes once, newest first. That order
//! is right without any sorting, because a node is numbered when it is made and its inputs were made before it. At every node
//! the incoming gradient is complete; the node's `Backward` turns it into gradients of the inputs and is consumed by doing
//! so, which frees the saved tensors while the walk goes on.
//!
//! Gradients end at *leaves* ([`GradSlot`]): the first one is stored, later ones are added, until [`GradSlot::take`] empties
//! the slot. [`no_grad`] records nothing. An operation that has no backward refuses tensors that need a gradient
//! ([`refuse_grad`]); a gradient is never cut silently.
//!
//! What it costs: a node is one allocation and a lock. A training step of ResNet-34 makes 150 of them.
//!
//! ```
//! use onecycle::{Device, Tensor, autograd, ops};
//! # fn main() -> onecycle::Result<()> {
//! let slot = autograd::GradSlot::new();
//! let x = slot.leaf(&Tensor::from_slice(&[-1.0f64, 2.0], [1, 2], Device::Cpu)?);
//! let y = ops::relu(&x)?;
//! autograd::backward_with(&y, Tensor::from_slice(&[10.0f64, 10.0], [1, 2], Device::Cpu)?)?;
//! assert_eq!(slot.take().unwrap().to_vec::<f64>()?, [0.0, 10.0]);
//! # Ok(()) }
//! ```

pub mod gradcheck;
pub mod watch;

use crate::tensor::{Shape, Tensor};
use crate::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use watch::Phase;

/// The derivative of one operation, with what its forward pass saved.
pub trait Backward: Send + Sync {
    /// From the gradient of the output to the gradients of the inputs, in the order they were given to [`record`]. `needs[i]`
    /// says whether input `i` wants its gradient; where it doesn't, `None` saves the work.
    ///
    /// # Errors
    /// Whatever the computation meets.
    fn backward(self: Box<Self>, dy: Tensor, needs: &[bool]) -> Result<Vec<Option<Tensor>>>;

    /// As [`Backward::backward`], for an operation that can add to what input 0 has received from others so far: one that takes
    /// `so_far` returns the sum as that input's gradient. It saves a pass over memory where a residual block's paths meet.
    ///
    /// # Errors
    /// As [`Backward::backward`].
    fn backward_onto(
        self: Box<Self>,
        dy: Tensor,
        needs: &[bool],
        so_far: &mut Option<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let _ = so_far;
        self.backward(dy, needs)
    }
}

/// Where a gradient ends: a leaf of the graph, such as a parameter.
#[derive(Debug, Default)]
pub struct GradSlot(Mutex<Option<Tensor>>);

impl GradSlot {
    /// An empty slot.
    pub fn new() -> Arc<GradSlot> {
        Arc::default()
    }

    /// `value` as a leaf: gradients that reach the result are added up in this slot.
    pub fn leaf(self: &Arc<Self>, value: &Tensor) -> Tensor {
        let node = Node::new("leaf", value.shape().clone(), Vec::new(), Kind::Leaf(self.clone()));
        value.detach().with_node(enabled().then(|| Arc::new(node)))
    }

    /// The gradient so far.
    pub fn get(&self) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The gradient so far, leaving the slot empty.
    pub fn take(&self) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Replaces the gradient so far.
    pub(crate) fn set(&self, grad: Tensor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(grad);
    }

    fn add(&self, grad: Tensor) -> Result<()> {
        add_to(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), grad)
    }
}

/// The first gradient is stored as it is, later ones are added: no buffer of zeros is made to add to.
fn add_to(sum: &mut Option<Tensor>, grad: Tensor) -> Result<()> {
    match sum {
        Some(sum) => {
            let shape = grad.shape().clone();
            sum.accumulate(grad)?;
            watch::lap(Phase::Backward, "gradient sum", &shape);
            Ok(())
        }
        None => {
            *sum = Some(grad);
            Ok(())
        }
    }
}

/// One step of a computation, as the graph remembers it.
pub struct Node {
    number: u64,
    op: &'static str,
    shape: Shape,
    inputs: Vec<Option<Arc<Node>>>,
    kind: Kind,
}

enum Kind {
    Leaf(Arc<GradSlot>),
    Op(Mutex<Option<Box<dyn Backward>>>),
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Node {
    fn new(op: &'static str, shape: Shape, inputs: Vec<Option<Arc<Node>>>, kind: Kind) -> Node {
        Node { number: NEXT.fetch_add(1, Ordering::Relaxed), op, shape, inputs, kind }
    }
}

/// Dropping the newest node would drop its inputs' nodes from inside, and so on down a deep network until the stack ends:
/// the chain is taken apart in a loop instead.
impl Drop for Node {
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.inputs);
        while let Some(input) = pending.pop() {
            if let Some(mut node) = input.and_then(Arc::into_inner) {
                pending.append(&mut node.inputs);
            }
        }
    }
}

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// True unless this thread is inside [`no_grad`].
pub fn enabled() -> bool {
    ENABLED.get()
}

/// Runs `f` without recording a graph.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENABLED.set(self.0);
        }
    }
    let _restore = Restore(ENABLED.replace(false));
    f()
}

/// Enters an operation into the graph: returns `output`, connected to `inputs` through the `Backward` that `save` makes.
/// `save` is called only when a gradient is wanted, with `needs[i]` telling for which inputs.
pub fn record<B: Backward + 'static>(
    op: &'static str,
    inputs: &[&Tensor],
    output: Tensor,
    save: impl FnOnce(&[bool]) -> B,
) -> Tensor {
    watch::lap(Phase::Forward, op, output.shape());
    let needs: Vec<bool> = inputs.iter().map(|t| t.requires_grad()).collect();
    if !enabled() || !needs.contains(&true) {
        return output.detach();
    }
    let nodes = inputs.iter().map(|t| t.node().cloned()).collect();
    let kind = Kind::Op(Mutex::new(Some(Box::new(save(&needs)))));
    let node = Node::new(op, output.shape().clone(), nodes, kind);
    output.detach().with_node(Some(Arc::new(node)))
}

/// For operations without a backward.
///
/// # Errors
/// [`ErrorKind::Autograd`] when one of `inputs` needs a gradient, unless [`no_grad`] is in force.
pub fn refuse_grad(op: &str, inputs: &[&Tensor]) -> Result<()> {
    if enabled() && inputs.iter().any(|t| t.requires_grad()) {
        let message = "has no backward, and an input needs a gradient";
        return Err(Error::new(ErrorKind::Autograd, message).on(op).remedy("detach() the input, or use no_grad"));
    }
    Ok(())
}

/// Gradients of the scalar `loss` with respect to every leaf it was computed from.
///
/// # Errors
/// [`ErrorKind::Autograd`] when `loss` isn't a scalar, needs no gradient, or its graph was walked before.
pub fn backward(loss: &Tensor) -> Result<()> {
    if loss.numel() != 1 {
        let message = format!("backward starts at a scalar, got shape {}", loss.shape());
        return Err(
            Error::new(ErrorKind::Autograd, message).remedy("backward_with takes the gradient of a larger output")
        );
    }
    backward_with(loss, Tensor::full(1.0, loss.shape(), loss.dtype(), loss.device())?)
}

/// As [`backward`], from an `output` of any shape with its gradient `dy`.
///
/// # Errors
/// As [`backward`], and [`ErrorKind::Shape`] when `dy` doesn't match.
pub fn backward_with(output: &Tensor, dy: Tensor) -> Result<()> {
    let Some(root) = output.node() else {
        return Err(Error::new(ErrorKind::Autograd, "backward was called on a tensor that needs no gradient")
            .remedy("at least one input must be a leaf that requires a gradient, outside no_grad"));
    };
    if dy.shape() != output.shape() {
        return Err(Error::shape("backward", format!("gradient {} for output {}", dy.shape(), output.shape())));
    }
    // Nodes that have received a gradient and wait for their turn, newest last.
    let mut waiting: BTreeMap<u64, (Arc<Node>, Option<Tensor>)> = BTreeMap::new();
    waiting.insert(root.number, (root.clone(), Some(dy)));
    while let Some((_, (node, grad))) = waiting.pop_last() {
        let Some(grad) = grad else { continue };
        let step = match &node.kind {
            Kind::Leaf(slot) => {
                slot.add(grad)?;
                continue;
            }
            Kind::Op(step) => step.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        let Some(step) = step else {
            let message = "backward was called twice on one graph, and the first call freed what it needs";
            return Err(Error::new(ErrorKind::Autograd, message).on(node.op).remedy("run the forward pass again"));
        };
        let needs: Vec<bool> = node.inputs.iter().map(Option::is_some).collect();
        let first = node.inputs.first().and_then(Option::as_ref).map(|input| input.number);
        let mut so_far = first.and_then(|number| waiting.get_mut(&number)?.1.take());
        let grads = step.backward_onto(grad, &needs, &mut so_far)?;
        if let Some(entry) = first.filter(|_| so_far.is_some()).and_then(|number| waiting.get_mut(&number)) {
            entry.1 = so_far;
        }
        watch::lap(Phase::Backward, node.op, &node.shape);
        for (input, grad) in node.inputs.iter().zip(grads) {
            let (Some(input), Some(grad)) = (input, grad) else { continue };
            if grad.shape() != &input.shape {
                let message = format!("made a gradient {} for an input {}", grad.shape(), input.shape);
                return Err(Error::new(ErrorKind::Autograd, message).on(node.op));
            }
            let entry = waiting.entry(input.number).or_insert_with(|| (input.clone(), None));
            add_to(&mut entry.1, grad)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, ops};

    fn leaf(values: &[f64]) -> (Arc<GradSlot>, Tensor) {
        let slot = GradSlot::new();
        let t = slot.leaf(&Tensor::from_slice(values, [1, values.len()], Device::Cpu).unwrap());
        (slot, t)
    }

    #[test]
    fn a_tensor_used_twice_gets_both_gradients() {
        let (slot, x) = leaf(&[1.0, -2.0]);
        let y = ops::add(&ops::relu(&x).unwrap(), &x).unwrap();
        backward_with(&y, Tensor::on_cpu(1.0, [1, 2], y.dtype())).unwrap();
        assert_eq!(slot.get().unwrap().to_vec::<f64>().unwrap(), [2.0, 1.0]);
    }

    #[test]
    fn misuse_is_an_error() {
        let (_, x) = leaf(&[1.0, 2.0]);
        let y = ops::relu(&x).unwrap();
        assert_eq!(backward(&y).unwrap_err().kind(), ErrorKind::Autograd, "not a scalar");
        let one = || Tensor::on_cpu(1.0, [1, 2], y.dtype());
        backward_with(&y, one()).unwrap();
        assert!(backward_with(&y, one()).unwrap_err().to_string().contains("twice"));
        let plain = no_grad(|| ops::relu(&x)).unwrap();
        assert!(!plain.requires_grad());
        assert_eq!(backward_with(&plain, one()).unwrap_err().kind(), ErrorKind::Autograd);
        assert_eq!(refuse_grad("augment", &[&x]).unwrap_err().kind(), ErrorKind::Autograd);
        assert!(no_grad(|| refuse_grad("augment", &[&x])).is_ok());
    }

    #[test]
    fn a_deep_graph_neither_walks_nor_drops_recursively() {
        let (slot, x) = leaf(&[1.0]);
        let mut y = x.clone();
        for _ in 0..100_000 {
            y = ops::relu(&y).unwrap();
        }
        let second = y.clone();
        backward_with(&y, Tensor::on_cpu(1.0, [1, 1], y.dtype())).unwrap();
        assert_eq!(slot.take().unwrap().item().unwrap(), 1.0);
        drop((y, second));
    }
}

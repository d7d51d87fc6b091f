//! Watching a computation go by: which operation has just finished, in which direction.
//!
//! A profile needs to know where the time between two moments went. Operations run one after the other on the caller's thread
//! (their loops use all threads, but each ends before the next begins), so it is enough to be told when one *ends*: everything
//! since the previous end was its own. [`watched`] installs such a listener for the calling thread; the clock is the
//! listener's business (`cargo bench --bench step -- --profile` has one). Where nobody listens it costs a look at a thread-local
//! flag, 10 ns per operation against the millisecond that a convolution takes.
//!
//! ```
//! use onecycle::{Device, Tensor, autograd::watch, ops};
//! use std::{cell::RefCell, rc::Rc};
//! # fn main() -> onecycle::Result<()> {
//! let seen = Rc::new(RefCell::new(Vec::new()));
//! let log = seen.clone();
//! let x = Tensor::from_slice(&[-1.0f32, 2.0], [1, 2], Device::Cpu)?;
//! watch::watched(move |_, op, _| log.borrow_mut().push(op), || ops::relu(&x))?;
//! assert_eq!(*seen.borrow(), ["relu"]);
//! # Ok(()) }
//! ```

use crate::tensor::Shape;
use std::cell::RefCell;

/// Which way a computation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// From input to loss.
    Forward,
    /// From loss to gradients.
    Backward,
}

type Listener = Box<dyn FnMut(Phase, &'static str, &Shape)>;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Runs `f` and tells `listener` of every operation that ends meanwhile on this thread: its phase, its name, the shape of its
/// output (in [`Phase::Backward`] also of its output, or of the gradients that were added up).
pub fn watched<R>(listener: impl FnMut(Phase, &'static str, &Shape) + 'static, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Listener>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LISTENER.set(self.0.take());
        }
    }
    let _restore = Restore(LISTENER.replace(Some(Box::new(listener))));
    f()
}

/// Called where an operation, or a part of one worth telling apart, has ended.
pub(crate) fn lap(phase: Phase, op: &'static str, shape: &Shape) {
    LISTENER.with(|cell| {
        // A listener that computes with tensors would be called from inside itself: it isn't.
        if let Ok(mut listener) = cell.try_borrow_mut()
            && let Some(listener) = listener.as_mut()
        {
            listener(phase, op, shape);
        }
    });
}

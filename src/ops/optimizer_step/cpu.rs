//! Optimizer steps on the processor: one pass over parameter, gradient and averages.

use super::{Rule, Step};
use crate::device::cpu::{PIECE, par_for, simd::vectorized};
use crate::tensor::Float;
use std::sync::Mutex;

/// One piece of everything that a step reads and writes.
struct Piece<'a, T> {
    p: &'a mut [T],
    d: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
}

pub(super) fn step<T: Float>(p: &mut [T], d: &[T], m: Option<&mut [T]>, v: Option<&mut [T]>, t: u64, step: &Step) {
    let mut m = m.map(|m| m.chunks_mut(PIECE));
    let mut v = v.map(|v| v.chunks_mut(PIECE));
    let mut pieces = Vec::with_capacity(p.len() / PIECE + 1);
    for (p, d) in p.chunks_mut(PIECE).zip(d.chunks(PIECE)) {
        let m = m.as_mut().and_then(Iterator::next).unwrap_or_default();
        let v = v.as_mut().and_then(Iterator::next).unwrap_or_default();
        pieces.push(Mutex::new(Piece { p, d, m, v }));
    }
    par_for(pieces.len(), |i| {
        let mut piece = pieces[i].lock().unwrap_or_else(|e| e.into_inner());
        update(&mut piece, t, step);
    });
}

vectorized! {
    fn update<T: Float>(piece: &mut Piece<'_, T>, t: u64, step: &Step) {
        let Piece { p, d, m, v } = piece;
        let lr = T::of(step.lr);
        let decay = T::of(if step.decoupled { 1.0 - step.lr * step.wd } else { 1.0 });
        let coupled = T::of(if step.decoupled { 0.0 } else { step.wd });
        match step.rule {
            Rule::Adam { mom, sqr_mom, eps } => {
                let power = t.min(i32::MAX as u64) as i32;
                let rate = T::of(step.lr / (1.0 - mom.powi(power)));
                let debias = T::of(1.0 / (1.0 - sqr_mom.powi(power)));
                let (mom, rest, sq, sq_rest) = (T::of(mom), T::of(1.0 - mom), T::of(sqr_mom), T::of(1.0 - sqr_mom));
                let eps = T::of(eps);
                for (((p, &d), m), v) in p.iter_mut().zip(*d).zip(m.iter_mut()).zip(v.iter_mut()) {
                    let w = *p * decay;
                    let d = d + coupled * w;
                    *m = mom * *m + rest * d;
                    *v = sq * *v + sq_rest * (d * d);
                    *p = w - rate * *m / ((*v * debias).sqrt() + eps);
                }
            }
            Rule::Sgd { mom: 0.0 } => {
                for (p, &d) in p.iter_mut().zip(*d) {
                    let w = *p * decay;
                    *p = w - lr * (d + coupled * w);
                }
            }
            Rule::Sgd { mom } => {
                let mom = T::of(mom);
                for ((p, &d), m) in p.iter_mut().zip(*d).zip(m.iter_mut()) {
                    let w = *p * decay;
                    *m = mom * *m + (d + coupled * w);
                    *p = w - lr * *m;
                }
            }
            Rule::RmsProp { mom, sqr_mom, eps } => {
                let (with_mom, mom) = (mom != 0.0, T::of(mom));
                let (sq, sq_rest, eps) = (T::of(sqr_mom), T::of(1.0 - sqr_mom), T::of(eps));
                for (i, ((p, &d), v)) in p.iter_mut().zip(*d).zip(v.iter_mut()).enumerate() {
                    let w = *p * decay;
                    let d = d + coupled * w;
                    *v = sq * *v + sq_rest * (d * d);
                    let mut along = d;
                    if with_mom {
                        m[i] = mom * m[i] + d;
                        along = m[i];
                    }
                    *p = w - lr * along / (v.sqrt() + eps);
                }
            }
        }
    }
}

//! The learning-rate finder: which learning rate to train with (Leslie Smith, *Cyclical Learning Rates*, 2015; fastai's `lr_find`).
//!
//! A short training in which the learning rate rises by the same factor from batch to batch, from far too small to far too large. Where
//! the smoothed loss falls fast, training goes well; where it explodes, it is over. The rules that turn the curve into a number are in
//! `suggest.rs`.
//!
//! **Nothing is changed by it.** Parameters, running statistics, what the optimizer remembers, its hyper-parameters, the record of the
//! last fit and the place in the sequence of random numbers are afterwards what they were, bit for bit, even if a batch fails. (fastai
//! restores model and optimizer, but neither the random generators nor the recorder.) It costs no memory but for what training changes:
//! tensors share theirs until one of them is written to. The curve stays in [`Recorder::lr_find`](super::Recorder::lr_find).

use super::callback::{AFTER_BATCH, AFTER_TRAIN, BEFORE_BATCH, BEFORE_VALIDATE, Callback, Event, Level, Signal, Stop};
use super::policies::FitOptions;
use super::recorder::Smooth;
use super::suggest::{self, Curve};
use super::{Learner, Slot};
use crate::data::python;
use crate::nn::Module;
use crate::optim::LrMax;
use crate::{Error, ErrorKind, Result, Tensor};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The settings of [`Learner::lr_find_with`]; the default is fastai's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LrFind {
    /// The first batch's learning rate.
    pub start_lr: f64,
    /// The learning rate that a batch after the last one would have.
    pub end_lr: f64,
    /// Batches; 6 at least.
    pub num_it: usize,
    /// Stop once the smoothed loss is four times its smallest.
    pub stop_div: bool,
}

impl Default for LrFind {
    fn default() -> Self {
        LrFind { start_lr: 1e-7, end_lr: 10.0, num_it: 100, stop_div: true }
    }
}

impl LrFind {
    /// Batches below this number say nothing.
    const LEAST: usize = 6;

    fn check(&self) -> Result<()> {
        let LrFind { start_lr, end_lr, .. } = *self;
        if start_lr.is_finite() && end_lr.is_finite() && 0.0 < start_lr && start_lr < end_lr {
            return Ok(());
        }
        let text = format!("the learning rate cannot rise from {start_lr:e} to {end_lr:e}");
        Err(Error::new(ErrorKind::Argument, text).on("lr_find").remedy("both must be above 0, the first one smaller"))
    }

    /// The learning rate of batch `i`.
    fn lr(&self, i: usize) -> f64 {
        self.start_lr * (self.end_lr / self.start_lr).powf(i as f64 / self.num_it as f64)
    }
}

/// What [`Learner::lr_find`] finds. fastai: `SuggestedLRs`.
///
/// Printed, it is fastai's line with all four rules' answers.
#[derive(Clone, Debug, PartialEq)]
pub struct SuggestedLrs {
    /// A tenth of where the loss is smallest. The article's `lr_min`.
    pub lr_min: f64,
    /// Where the loss falls fastest. The article's `lr_steep`.
    pub lr_steep: f64,
    /// In the middle of the longest descent: what today's fastai suggests by default.
    pub valley: f64,
    /// Before the loss rises; none with fewer than 16 points to judge by.
    pub slide: Option<f64>,
    /// The learning rate of each batch.
    pub lrs: Vec<f64>,
    /// The smoothed loss after each batch.
    pub losses: Vec<f64>,
    /// The rules' points on the curve: (name, learning rate, loss).
    pub points: Vec<(&'static str, f64, f64)>,
}

impl SuggestedLrs {
    fn new(lrs: Vec<f64>, losses: Vec<f64>, num_it: usize) -> Result<SuggestedLrs> {
        let curve = Curve::new(&lrs, &losses, num_it);
        let too_short = || {
            let n = losses.len();
            if num_it < 7 {
                let text =
                    format!("{num_it} batches are too few: the rules leave out the first tenth and the last five");
                return Error::new(ErrorKind::Argument, text).on("num_it").remedy("use more; 100 is fastai's");
            }
            let text = format!(
                "after {n} batches the loss was four times its smallest or no number: there is no curve to judge by"
            );
            Error::new(ErrorKind::Data, text)
                .on("lr_find")
                .remedy("start with a smaller start_lr, or let it run with stop_div: false")
        };
        let steep = suggest::steep(&curve).ok_or_else(too_short)?;
        let minimum = suggest::minimum(&curve).ok_or_else(too_short)?;
        let valley = suggest::valley(&curve).ok_or_else(too_short)?;
        let slide = suggest::slide(&curve);
        let named = [("minimum", Some(minimum)), ("steep", Some(steep)), ("valley", Some(valley)), ("slide", slide)];
        let points = named.iter().filter_map(|(name, found)| found.map(|f| (*name, f.point.0, f.point.1))).collect();
        Ok(SuggestedLrs {
            lr_min: minimum.lr,
            lr_steep: steep.lr,
            valley: valley.lr,
            slide: slide.map(|f| f.lr),
            lrs,
            losses,
            points,
        })
    }

    /// The smoothed loss over the learning rate, with the four suggestions marked.
    #[cfg(feature = "plot")]
    pub fn plot(&self) -> crate::plot::Figure {
        // The dot of `minimum` is where the loss is smallest; what it suggests is a tenth of that.
        let label = |&(name, lr, loss): &(&str, f64, f64)| {
            let suggested = if name == "minimum" { self.lr_min } else { lr };
            (format!("{name} {suggested:.2e}"), lr, loss)
        };
        crate::plot::lr_find(&self.lrs, &self.losses, &self.points.iter().map(label).collect::<Vec<_>>(), 5)
    }
}

impl fmt::Display for SuggestedLrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [lr_min, lr_steep, valley] = [self.lr_min, self.lr_steep, self.valley].map(python::float);
        write!(f, "SuggestedLRs(minimum={lr_min}, steep={lr_steep}, valley={valley}")?;
        self.slide.map_or(Ok(()), |slide| write!(f, ", slide={}", python::float(slide)))?;
        f.write_str(")")
    }
}

/// When the finder stops: what it has seen so far.
#[derive(Debug)]
struct Search {
    smooth: Smooth,
    best: f64,
    lrs: Vec<f64>,
    losses: Vec<f64>,
}

impl Default for Search {
    fn default() -> Search {
        Search { smooth: Smooth::default(), best: f64::INFINITY, lrs: Vec::new(), losses: Vec::new() }
    }
}

impl Search {
    /// Takes in a batch's loss; true when it is enough. A loss that is no number never is, as in fastai.
    fn push(&mut self, lr: f64, loss: f64, settings: &LrFind) -> bool {
        let smoothed = self.smooth.push(loss);
        self.best = self.best.min(smoothed);
        self.lrs.push(lr);
        self.losses.push(smoothed);
        settings.stop_div && smoothed > 4.0 * self.best || self.losses.len() >= settings.num_it
    }
}

/// Raises the learning rate, watches the loss, and calls it off.
struct LrFinder {
    settings: LrFind,
    search: Arc<Mutex<Search>>,
    /// Batches whose losses have been taken in.
    seen: usize,
    i: usize,
}

impl LrFinder {
    /// Takes in the losses that have arrived. A GPU's come a batch or two late: then as many more are computed than are used.
    fn take(&mut self, learn: &Learner) -> Signal {
        let mut search = self.search.lock().unwrap_or_else(PoisonError::into_inner);
        for &loss in &learn.recorder().raw[self.seen..] {
            let lr = self.settings.lr(self.seen);
            self.seen += 1;
            if search.push(lr, loss, &self.settings) {
                return Err(Stop::Cancel(Level::Fit));
            }
        }
        Ok(())
    }
}

impl Callback for LrFinder {
    fn name(&self) -> &'static str {
        "LRFinder"
    }

    fn order(&self) -> i32 {
        60
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_BATCH, AFTER_BATCH, AFTER_TRAIN, BEFORE_VALIDATE])
    }

    fn before_batch(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            let lr = self.settings.lr(self.i);
            learn.opt_mut().set(|_, h| h.lr = lr);
        }
        Ok(())
    }

    fn after_batch(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            self.i += 1;
            self.take(learn)?;
        }
        Ok(())
    }

    fn after_train(&mut self, learn: &mut Learner) -> Signal {
        self.take(learn)
    }

    fn before_validate(&mut self, _: &mut Learner) -> Signal {
        Err(Stop::Cancel(Level::Validate))
    }
}

/// All of a learner that a fit changes.
struct Snapshot {
    state: Vec<Tensor>,
    opt: crate::optim::Snapshot,
    recorder: super::Recorder,
    epochs_seen: u64,
}

impl Snapshot {
    fn of(learn: &Learner) -> Snapshot {
        Snapshot {
            state: learn.model.state().iter().map(|(_, entry)| entry.value()).collect(),
            opt: learn.opt.snapshot(),
            recorder: learn.recorder.clone(),
            epochs_seen: learn.epochs_seen,
        }
    }

    fn restore(self, learn: &mut Learner) -> Result<()> {
        learn.opt.restore(self.opt);
        (learn.recorder, learn.epochs_seen, learn.at) = (self.recorder, self.epochs_seen, Default::default());
        learn.model.state().iter().zip(self.state).try_for_each(|((_, entry), value)| entry.set(value))
    }
}

impl Learner {
    /// Tries learning rates from 1e-7 to 10 on up to 100 training batches, and suggests some: fastai's `lr_find`. The learner is
    /// unchanged afterwards.
    ///
    /// ```no_run
    /// # use onecycle::prelude::*;
    /// # fn demo(mut learn: Learner) -> onecycle::Result<()> {
    /// let found = learn.lr_find()?;
    /// println!("Minimum/10: {:.2e}, steepest point: {:.2e}", found.lr_min, found.lr_steep);
    /// # #[cfg(feature = "plot")]
    /// found.plot().save("lr_find.png")?;
    /// learn.fit_one_cycle(5, found.valley)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What a batch fails with; [`ErrorKind::Data`] when the loss explodes at once, so that there is no curve.
    pub fn lr_find(&mut self) -> Result<SuggestedLrs> {
        self.lr_find_with(&LrFind::default())
    }

    /// [`Learner::lr_find`] over other learning rates, or more batches.
    ///
    /// # Errors
    /// As [`Learner::lr_find`]; [`ErrorKind::Argument`] when the learning rates don't rise.
    pub fn lr_find_with(&mut self, settings: &LrFind) -> Result<SuggestedLrs> {
        settings.check()?;
        let settings = LrFind { num_it: settings.num_it.max(LrFind::LEAST), ..*settings };
        let epochs = settings.num_it / self.dls.train.len().max(1) + 1;
        let search = Arc::new(Mutex::new(Search::default()));
        let finder = LrFinder { settings, search: search.clone(), seen: 0, i: 0 };
        let before = Snapshot::of(self);
        // Nobody else takes part: a table, a saved model or a stop would be those of a training that is thrown away.
        let cbs = std::mem::take(&mut self.cbs);
        let (stay, quiet): (Vec<Slot>, Vec<Slot>) = cbs.into_iter().partition(|slot| slot.cb.runs_in_lr_find());
        self.cbs = stay;
        self.finding_lr = true;
        let lr = LrMax::All(settings.start_lr);
        let outcome = self.run_fit(epochs, &lr, None, &mut FitOptions::default().cb(finder));
        self.finding_lr = false;
        self.cbs.extend(quiet);
        self.sort_cbs();
        let restored = before.restore(self);
        outcome?;
        restored?;
        let search = std::mem::take(&mut *search.lock().unwrap_or_else(PoisonError::into_inner));
        let found = SuggestedLrs::new(search.lrs, search.losses, settings.num_it)?;
        self.recorder.lr_find = Some(found.clone());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::recorded;
    use super::*;

    /// The numbers are written as Python writes them.
    #[test]
    fn the_text_is_that_of_a_named_tuple() {
        let found = SuggestedLrs {
            lr_min: 0.010000000149011612,
            lr_steep: 1.202264403219488e-7,
            valley: 2.5e-5,
            slide: Some(1.0),
            lrs: vec![],
            losses: vec![],
            points: vec![],
        };
        let text = "SuggestedLRs(minimum=0.010000000149011612, steep=1.202264403219488e-07, valley=2.5e-05, slide=1.0)";
        assert_eq!(found.to_string(), text);
    }

    /// The schedule, the smoothing and the stop, on scripted losses.
    #[test]
    fn search_parity() {
        let Some(path) = recorded("lr_find.json") else { return };
        let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in recorded["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let numbers = |key: &str| -> Vec<f64> {
                // NaN and infinities are texts.
                let number = |v: &serde_json::Value| v.as_f64().unwrap_or_else(|| v.as_str().unwrap().parse().unwrap());
                case[key].as_array().unwrap().iter().map(number).collect()
            };
            let args = &case["args"];
            let settings = LrFind {
                start_lr: args["start_lr"].as_f64().unwrap(),
                end_lr: args["end_lr"].as_f64().unwrap(),
                num_it: args["num_it"].as_u64().unwrap() as usize,
                stop_div: args["stop_div"].as_bool().unwrap(),
            };
            let mut search = Search::default();
            let raw = numbers("raw_losses");
            let last = raw.iter().position(|&loss| search.push(settings.lr(search.lrs.len()), loss, &settings));
            assert_eq!(last.map(|i| i + 1), case["n_iterations"].as_u64().map(|n| n as usize), "{name}");
            for (got, want) in search.lrs.iter().zip(numbers("lrs")) {
                assert!((got - want).abs() <= 1e-12 * want, "{name}: {got} for {want}");
            }
            for (got, want) in search.losses.iter().zip(numbers("smoothed")) {
                let same = got.is_nan() && want.is_nan() || (got - want).abs() <= 1e-5 * want.abs();
                assert!(same, "{name}: {got} for {want}");
            }
        }
    }
}

//! The training loop, printed with the callbacks that act at each of its events: fastai's `show_training_loop`.
//!
//! Which events a callback acts at, a trait with default methods doesn't tell. So a callback may say it
//! ([`Callback::events`], which all of this crate's do), and a fit sees it: the default methods leave a mark when they are called. A callback
//! that says nothing is listed everywhere until a fit has shown where it does nothing.

use super::callback::{AFTER_BATCH, AFTER_EPOCH, AFTER_TRAIN, BEFORE_EPOCH, BEFORE_FIT, BEFORE_TRAIN, BEFORE_VALIDATE};
use super::{Event, Learner, Level, Signal, Slot, Stay, callback};
use crate::learner::Callback;
use std::fmt::Write;

/// What the learner itself does under the names that these things have in fastai.
const OWN: [(&str, &[Event]); 2] = [
    ("TrainEvalCallback", &[BEFORE_FIT, BEFORE_TRAIN, BEFORE_VALIDATE, AFTER_BATCH]),
    ("Recorder", &[BEFORE_FIT, BEFORE_EPOCH, AFTER_BATCH, AFTER_TRAIN, AFTER_EPOCH]),
];

impl Slot {
    pub(super) fn new(cb: Box<dyn Callback>, stay: Stay) -> Slot {
        Slot { cb, stay, passes: 0 }
    }

    /// Calls the callback's method for `event`, and remembers if that was the one that does nothing.
    pub(super) fn call(&mut self, event: Event, learn: &mut Learner) -> Signal {
        learn.passed = false;
        let outcome = callback::call(self.cb.as_mut(), event, learn);
        self.passes |= u32::from(learn.passed) << event.place();
        outcome
    }

    pub(super) fn acts_at(&self, event: Event) -> bool {
        let seen_idle = self.passes >> event.place() & 1 == 1;
        self.cb.events().map_or(!seen_idle, |events| events.contains(&event))
    }
}

impl Learner {
    /// fastai's `learn.show_training_loop()`: the loop's events in their order, each with the callbacks that act there, in theirs.
    ///
    /// ```text
    /// Start Fit
    ///    - before_fit     : [TrainEvalCallback, Recorder, ProgressCallback]
    ///   Start Epoch Loop
    ///      - before_epoch   : [Recorder]
    /// ```
    pub fn show_training_loop(&self) -> String {
        use Level::*;
        let mut out = String::new();
        let mut indent = 0;
        let mut line = |text: Line| match text {
            Line::Start(what) => {
                _ = writeln!(out, "{:indent$}Start {what}", "");
                indent += 2;
            }
            Line::End(what) => {
                indent -= 2;
                _ = writeln!(out, "{:indent$}End {what}", "");
            }
            Line::Event(event) => {
                let names = self.acting_at(event).join(", ");
                _ = writeln!(out, "{:indent$} - {:15}: [{names}]", "", event.name());
            }
            Line::Same => _ = writeln!(out, "{:indent$} - **CBs same as train batch**: []", ""),
        };
        let batch = [
            Event::Before(Batch),
            Event::AfterPred,
            Event::AfterLoss,
            Event::BeforeBackward,
            Event::AfterBackward,
            Event::Before(Step),
            Event::Cancelled(Step),
            Event::After(Step),
            Event::Cancelled(Batch),
            Event::After(Batch),
        ];
        let around = |level| [Event::Cancelled(level), Event::After(level)].map(Line::Event);
        let (start, event) = (Line::Start, Line::Event);
        [start("Fit"), event(BEFORE_FIT), start("Epoch Loop"), event(BEFORE_EPOCH)].into_iter().for_each(&mut line);
        [start("Train"), event(BEFORE_TRAIN), start("Batch Loop")].into_iter().for_each(&mut line);
        batch.map(event).into_iter().for_each(&mut line);
        [Line::End("Batch Loop"), Line::End("Train")].into_iter().chain(around(Train)).for_each(&mut line);
        [start("Valid"), event(BEFORE_VALIDATE), start("Batch Loop"), Line::Same].into_iter().for_each(&mut line);
        [Line::End("Batch Loop"), Line::End("Valid")].into_iter().chain(around(Validate)).for_each(&mut line);
        [Line::End("Epoch Loop")].into_iter().chain(around(Epoch)).for_each(&mut line);
        [Line::End("Fit")].into_iter().chain(around(Fit)).for_each(&mut line);
        out
    }

    fn acting_at(&self, event: Event) -> Vec<&'static str> {
        let own = OWN.iter().filter(|(_, events)| events.contains(&event)).map(|(name, _)| *name);
        own.chain(self.cbs.iter().filter(|slot| slot.acts_at(event)).map(|slot| slot.cb.name())).collect()
    }
}

enum Line {
    Start(&'static str),
    End(&'static str),
    Event(Event),
    Same,
}

//! A callback of one's own: stops when the validation loss gets no better, and refuses batches whose loss is an outlier.
//!
//!     cargo run --release --example custom_callback
//!
//! It shows what a callback may do: read the learner, keep a state of its own, skip one step, say something to whoever watches, and end
//! the fit. fastai's own callbacks are in `learner::callbacks`; `SaveModel` here loads the best model back when `Careful` has ended the fit.

use onecycle::prelude::*;

/// Ends the fit after `patience` epochs without a better validation loss, and skips the step of a training batch whose
/// loss is more than `factor` times the smoothed one.
struct Careful {
    patience: usize,
    factor: f64,
    best: f64,
    waited: usize,
    skipped: usize,
}

impl Careful {
    fn new(patience: usize, factor: f64) -> Careful {
        Careful { patience, factor, best: f64::INFINITY, waited: 0, skipped: 0 }
    }
}

impl Callback for Careful {
    fn name(&self) -> &'static str {
        "Careful"
    }

    // After the epoch's row is recorded (50) and printed (60), and the best model saved (61): what ends a fit ends this event, too.
    fn order(&self) -> i32 {
        65
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        *self = Careful::new(self.patience, self.factor);
        Ok(())
    }

    // The gradients are there, the step is not done: cancelling it drops the gradients and keeps the weights.
    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        match learn.recorder().losses().last() {
            Some(usual) if learn.loss() > self.factor * usual => {
                self.skipped += 1;
                Err(Stop::Cancel(Level::Step))
            }
            _ => Ok(()),
        }
    }

    fn after_epoch(&mut self, learn: &mut Learner) -> Signal {
        let Some(loss) = learn.recorder().last("valid_loss") else { return Ok(()) };
        if loss < self.best {
            (self.best, self.waited) = (loss, 0);
            return Ok(());
        }
        self.waited += 1;
        if self.waited < self.patience {
            return Ok(());
        }
        // Printed under the table, and kept in `recorder().messages()`.
        learn.say(format!("no better than {:.4} for {} epochs: that is enough", self.best, self.waited));
        Err(Stop::Cancel(Level::Fit)) // `after_fit` still runs
    }

    fn after_fit(&mut self, learn: &mut Learner) -> Signal {
        learn.say(format!("best validation loss {:.4}, {} steps skipped", self.best, self.skipped));
        Ok(())
    }
}

fn main() -> Result<()> {
    let pictures = onecycle::vision::render_quickstart(&std::env::temp_dir().join("onecycle-examples"), 42)?;
    let dls = DataBlock::new((ImageBlock, CategoryBlock))
        .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name"))
        .splitter(RandomSplitter::seed(42))
        .item_tfms(Resize::new(32))
        .bs(32)
        .dataloaders(&pictures)?;
    let mut learn = vision_learner(&dls, resnet18)?
        .metrics(accuracy)
        .at_path(std::env::temp_dir().join("onecycle-examples/custom_callback"))
        .callback(Careful::new(2, 3.0))
        .callback(SaveModel::default());
    learn.fit(8, 1e-3)?;
    print!("{}", learn.show_training_loop()); // the fit has seen where Careful acts
    for row in learn.recorder().rows() {
        println!("epoch {}: accuracy {:.2}", row.epoch, row.get("accuracy").unwrap_or(f64::NAN));
    }
    Ok(())
}

//! One step for several batches: a large batch on a small device.

use super::super::callback::{BEFORE_FIT, BEFORE_STEP, Callback, Event, Level, Signal, Stop};
use super::super::{Learner, StateDict};
use crate::{Error, ErrorKind, Result};

/// Steps once `n_acc` *items* were seen, with the gradient of their mean loss: fastai's `GradientAccumulation`.
///
/// A batch of `b` items adds `b / n_acc` times the gradient of its mean loss. When the batches don't add up to `n_acc` exactly, the
/// count begins again at 0 after the step, and the surplus has made the step larger. What is left at the end of an epoch waits for the
/// next one; what is left at the end of the fit is dropped. Schedules advance batch by batch, and the reported losses are those of the batches.
///
/// Four batches of 16 are one of 64 up to rounding, but for batch norm, whose statistics are still those of 16.
#[derive(Clone, Debug)]
pub struct GradientAccumulation {
    /// Items for a step.
    pub n_acc: usize,
    seen: usize,
}

impl GradientAccumulation {
    /// Steps once `n_acc` items were seen; fastai's default is 32.
    pub fn new(n_acc: usize) -> GradientAccumulation {
        GradientAccumulation { n_acc, seen: 0 }
    }
}

impl Callback for GradientAccumulation {
    fn name(&self) -> &'static str {
        "GradientAccumulation"
    }

    fn order(&self) -> i32 {
        6
    }

    fn events(&self) -> Option<&'static [Event]> {
        Some(&[BEFORE_FIT, Event::AfterLoss, BEFORE_STEP])
    }

    fn before_fit(&mut self, _: &mut Learner) -> Signal {
        self.seen = 0;
        match self.n_acc {
            0 => Err(Error::new(ErrorKind::Argument, "no item is enough for a step")
                .on("n_acc")
                .remedy("say how many items make a step; 32 is fastai's")
                .into()),
            _ => Ok(()),
        }
    }

    fn after_loss(&mut self, learn: &mut Learner) -> Signal {
        if learn.is_training() {
            learn.scale_loss(learn.batch_len() as f64 / self.n_acc as f64);
        }
        Ok(())
    }

    fn before_step(&mut self, learn: &mut Learner) -> Signal {
        self.seen += learn.batch_len();
        if self.seen < self.n_acc {
            // Of the batch, not of the step: that would clear the gradients.
            return Err(Stop::Cancel(Level::Batch));
        }
        self.seen = 0;
        Ok(())
    }

    fn state_dict(&self) -> StateDict {
        StateDict::new().with("seen", self.seen)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.seen = state.get("seen")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{CategoryBlock, DataBlock, EndSplitter, get_image_files};
    use crate::nn::{HeadOptions, Linear, Module, Sequential, resnet18, safetensors};
    use crate::optim::OptimizerKind;
    use crate::vision::ImageBlock;
    use crate::{Device, Tensor};
    use std::sync::{Arc, Mutex};

    /// Epoch, batch, its size, and whether a step followed.
    type Row = (usize, usize, usize, bool);

    /// Replaces the batches by recorded ones, and writes down after which of them a step was taken.
    struct Script {
        x: Vec<f32>,
        y: Vec<i64>,
        bs: usize,
        rows: Arc<Mutex<Vec<Row>>>,
    }

    impl Callback for Script {
        fn name(&self) -> &'static str {
            "Script"
        }
        fn before_batch(&mut self, learn: &mut Learner) -> Signal {
            let from = learn.iter() * self.bs;
            let to = (from + self.bs).min(self.y.len());
            learn.at.x = Some(Tensor::from_slice(&self.x[2 * from..2 * to], [to - from, 2], Device::Cpu)?);
            learn.at.y = Some(Tensor::from_slice(&self.y[from..to], [to - from], Device::Cpu)?);
            self.rows.lock().unwrap().push((learn.epoch(), learn.iter(), to - from, false));
            Ok(())
        }
        fn after_step(&mut self, _: &mut Learner) -> Signal {
            self.rows.lock().unwrap().last_mut().unwrap().3 = true;
            Ok(())
        }
        fn before_validate(&mut self, _: &mut Learner) -> Signal {
            Err(Stop::Cancel(Level::Validate))
        }
    }

    /// fastai's loop on a small linear model, with the last batch of an epoch short: the same steps, losses and weights.
    #[test]
    fn accumulation_parity() {
        let Some(path) = crate::learner::recorded::recorded("accumulation.json") else { return };
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let file = safetensors::read(&path.with_extension("safetensors")).unwrap().tensors;
        let number = |key: &str| json[key].as_u64().unwrap() as usize;

        let model =
            Sequential::new().push(Linear::new(2, 3, true)).push(Linear::new(3, 3, true)).push(Linear::new(3, 2, true));
        let layer = |i: &str| ["a", "b", "c"][i.parse::<usize>().unwrap()];
        let place = |name: &str| name.split_once('.').map(|(i, rest)| format!("{}.{rest}", layer(i))).unwrap();
        for (name, p) in model.named_parameters() {
            p.set(file[&format!("init.{}", place(&name))].clone()).unwrap();
        }
        // Five batches an epoch, of whatever pictures.
        let dir = tempfile::tempdir().unwrap();
        for i in 0..22 {
            image::RgbImage::new(4, 4).save(dir.path().join(format!("{}_{i:02}.png", i % 2))).unwrap();
        }
        let dls = DataBlock::new((ImageBlock, CategoryBlock))
            .get_items(get_image_files)
            .get_y(crate::data::using_attr(crate::data::RegexLabeller::new("^(.)_").unwrap(), "name"))
            .splitter(EndSplitter::new(0.1, true))
            .bs(number("bs"))
            .workers(1)
            .dataloaders(dir.path())
            .unwrap();
        let mut learn = Learner::new(model, resnet18(), HeadOptions::default(), dls).opt_func(OptimizerKind::Sgd);
        let rows = Arc::new(Mutex::new(Vec::new()));
        let (x, y) = (file["x"].to_vec().unwrap(), file["y"].to_vec().unwrap());
        learn.add_cb(Script { x, y, bs: number("bs"), rows: rows.clone() });
        learn.add_cb(GradientAccumulation::new(number("n_acc")));
        learn.fit(number("epochs"), json["lr"].as_f64().unwrap()).unwrap();

        let recorded = json["rows"].as_array().unwrap();
        let of = |row: &serde_json::Value, key: &str| row[key].as_u64().unwrap() as usize;
        let steps: Vec<_> = recorded
            .iter()
            .map(|row| (of(row, "epoch"), of(row, "iter"), of(row, "bs"), row["stepped"].as_bool().unwrap()))
            .collect();
        assert_eq!(*rows.lock().unwrap(), steps);
        for (got, row) in learn.recorder().batch_losses().iter().zip(recorded) {
            let want = row["loss"].as_f64().unwrap();
            assert!((got - want).abs() < 1e-5 * want, "{got} for {want}");
        }
        for (name, p) in learn.model().named_parameters() {
            let want = file[&format!("final.{}", place(&name))].to_f64_vec().unwrap();
            for (g, w) in p.value().to_f64_vec().unwrap().into_iter().zip(want) {
                assert!((g - w).abs() < 1e-5, "{name}: {g} for {w}");
            }
        }
    }
}

//! Predictions beside their pictures: fastai's `show_results` and `plot_top_losses`, and the confusion matrix as a figure.
//!
//! A picture is shown as the network has seen it: after the item transforms (`Resize` has cropped it) and the batch transforms of
//! validation, the normalisation undone. What the network never saw can't explain its mistake.

use super::{ConfusionMatrix, Interpretation, Learner, TopLoss};
use crate::data::{BatchTransforms, DataLoader, InputBlock, Picture, Subset};
use crate::plot::{self, Captioned, Figure, picture_grid};
use crate::rng::{Purpose, Rng};
use crate::vision::{ImageBlock, pictures};
use crate::{DType, Device, Error, ErrorKind, Result};
use std::sync::Arc;

/// Makes a network's pictures visible.
#[derive(Clone)]
pub(super) struct Seen {
    loader: DataLoader,
    tfms: Arc<dyn BatchTransforms>,
}

impl Seen {
    pub fn new(learn: &Learner, loader: &DataLoader) -> Seen {
        Seen { loader: loader.in_order(Subset::Valid), tfms: learn.dls.batch_tfms().clone() }
    }

    /// The pictures of these places in the set, and their files.
    fn at(&self, places: &[usize]) -> Result<Vec<(Picture, String)>> {
        // One by one: without a Resize they have sizes of their own.
        let batches = places.iter().filter_map(|&place| Some(vec![*self.loader.indices().get(place)?])).collect();
        let mut all = Vec::new();
        for batch in self.loader.load(0, batches) {
            let batch = batch?;
            let x = batch.inputs(self.tfms.as_ref(), Subset::Valid, (0, 0), (Device::Cpu, DType::F32))?;
            let files = batch.paths.iter().map(|path| path.display().to_string());
            all.extend(pictures(&x, self.tfms.statistics())?.into_iter().zip(files));
        }
        Ok(all)
    }
}

impl Learner {
    /// Up to `max_n` pictures of the validation set, drawn by the learner's seed, under the true label and the predicted one: green where
    /// they agree, else red. fastai: `show_results`, which shows 9.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn show_results(&self, max_n: usize) -> Result<Figure> {
        let loader = &self.dls.valid;
        let mut places = Rng::at(self.seed, Purpose::Shuffle, 0, 0).permutation(loader.n_items());
        places.truncate(max_n);
        self.show_results_of(loader, &places)
    }

    /// [`Learner::show_results`] of chosen items: their places in the set of any loader.
    ///
    /// # Errors
    /// When a picture can't be read; [`ErrorKind::Argument`] for a place that the set doesn't have.
    pub fn show_results_of(&self, loader: &DataLoader, places: &[usize]) -> Result<Figure> {
        if let Some(place) = places.iter().find(|&&place| place >= loader.n_items()) {
            let message = format!("item {place} of {} does not exist", loader.n_items());
            return Err(Error::new(ErrorKind::Argument, message).on("show_results").remedy("count from 0"));
        }
        let some = loader.of_items(places);
        let all = self.preds_of(&some)?;
        let order: Vec<usize> = (0..places.len()).collect();
        let encode = self.dls.datasets().encode();
        let cell = |(i, (picture, file)): (usize, (Picture, String))| {
            let (actual, predicted) = (encode.title(&all.targets.get(i)), encode.title(&all.decoded[i]));
            Captioned::result(picture, &actual, &predicted).from_file(file)
        };
        let cells: Vec<Captioned> = Seen::new(self, &some).at(&order)?.into_iter().enumerate().map(cell).collect();
        picture_grid(&cells, None, None)
    }
}

impl ConfusionMatrix {
    /// The matrix as a heat map, of counts or, with `normalize`, of shares of each row: fastai's `plot_confusion_matrix`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when the counts don't fit the class names.
    pub fn plot(&self, normalize: bool) -> Result<Figure> {
        plot::confusion_matrix(&self.vocab, &self.counts, normalize)
    }
}

impl Interpretation {
    /// [`ConfusionMatrix::plot`] of the whole set.
    ///
    /// # Errors
    /// As [`ConfusionMatrix::plot`].
    pub fn plot_confusion_matrix(&self, normalize: bool) -> Result<Figure> {
        self.confusion_matrix().plot(normalize)
    }

    /// The `k` pictures with the largest losses, or the smallest, under what they were taken for, what they are, the loss, and the
    /// probability of what they were taken for. fastai: `plot_top_losses`.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn plot_top_losses(&self, k: usize, largest: bool) -> Result<Figure> {
        let cells = self.top_loss_cells(k, largest)?;
        Ok(picture_grid(&cells, None, None)?.title("Prediction/Actual/Loss/Probability"))
    }

    /// The pictures of [`Interpretation::plot_top_losses`] with their titles and files. Of predictions that were
    /// [handed in](Interpretation::new) they are the files' own pictures.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn top_loss_cells(&self, k: usize, largest: bool) -> Result<Vec<Captioned>> {
        let worst = self.top_losses(k, largest);
        let shown = match &self.seen {
            Some(seen) => seen.at(&worst.iter().map(|t| t.index).collect::<Vec<_>>())?,
            None => {
                let opener = ImageBlock.opener();
                let one = |t: &TopLoss| Ok((opener.open(&t.path)?, t.path.display().to_string()));
                worst.iter().map(one).collect::<Result<Vec<_>>>()?
            }
        };
        let cell = |(t, (picture, file)): (&TopLoss, (Picture, String))| {
            Captioned::loss(picture, &t.predicted, &t.actual, t.loss, t.probability).from_file(file)
        };
        Ok(worst.iter().zip(shown).map(cell).collect())
    }
}

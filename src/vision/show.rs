//! Showing what the network will see: fastai's `dls.show_batch()`.
//!
//! A batch goes through the item and batch transforms of training, then the normalisation is undone and the pixels are bytes
//! again. With [`ShowBatch::unique`] all pictures are the first training item, each with draws of its own: the quickest way to judge
//! an augmentation.

use crate::data::{BatchDraws, DataLoaders, Picture, Subset};
use crate::ops::augment::Statistics;
use crate::plot::{Captioned, Figure, picture_grid};
use crate::rng::{Purpose, Rng};
use crate::{DType, Device, Error, ErrorKind, Result, Tensor};

/// How a batch is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowBatch {
    /// Pictures at most.
    pub max_n: usize,
    /// Rows of the grid; by fastai's rule when `None`.
    pub nrows: Option<usize>,
    /// Columns of the grid; by fastai's rule when `None`.
    pub ncols: Option<usize>,
    /// One item in all its augmentations instead of a batch.
    pub unique: bool,
    /// The pass to show: another number shows other pictures.
    pub epoch: u64,
}

impl Default for ShowBatch {
    fn default() -> Self {
        ShowBatch { max_n: 9, nrows: None, ncols: None, unique: false, epoch: 0 }
    }
}

impl DataLoaders {
    /// Nine pictures of a training batch with their labels: fastai's `show_batch()`.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn show_batch(&self) -> Result<Figure> {
        self.show_batch_with(&ShowBatch::default())
    }

    /// Nine versions of the first training item: fastai's `show_batch(unique=True)`.
    ///
    /// # Errors
    /// When the picture can't be read.
    pub fn show_batch_unique(&self) -> Result<Figure> {
        self.show_batch_with(&ShowBatch { unique: true, ..ShowBatch::default() })
    }

    /// [`DataLoaders::show_batch`] with options.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn show_batch_with(&self, options: &ShowBatch) -> Result<Figure> {
        picture_grid(&self.batch_cells(options)?, options.nrows, options.ncols)
    }

    /// The pictures of [`DataLoaders::show_batch`], with their titles.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn batch_cells(&self, options: &ShowBatch) -> Result<Vec<Captioned>> {
        if options.unique {
            return (0..options.max_n as u64).map(|k| self.augmented_first(options.epoch + k)).collect();
        }
        let Some(batch) = self.train.epoch(options.epoch).next() else {
            return Err(
                Error::new(ErrorKind::Data, "the training set has no batch").on(self.datasets().source().display())
            );
        };
        let batch = batch?;
        let place = (self.seed(), options.epoch);
        let x = batch.inputs(self.batch_tfms().as_ref(), Subset::Train, place, (Device::Cpu, DType::F32))?;
        let encode = self.datasets().encode();
        let titles = (0..batch.len()).map(|i| encode.title(&batch.targets.get(i)));
        let cells = pictures(&x, self.batch_tfms().statistics())?.into_iter().zip(titles).zip(&batch.paths);
        let cell = |((picture, title), path): ((Picture, String), &std::path::PathBuf)| {
            Captioned::labelled(picture, title).from_file(path.display().to_string())
        };
        Ok(cells.take(options.max_n).map(cell).collect())
    }

    fn augmented_first(&self, epoch: u64) -> Result<Captioned> {
        let (path, target) = self.datasets().sample(Subset::Train, 0)?;
        let item = self.train.indices()[0];
        let mut rng = Rng::at(self.seed(), Purpose::ItemTransform, epoch, item as u64);
        let mut picture = self.opener().open(path)?;
        for t in self.item_tfms() {
            picture = t.apply(picture, Subset::Train, &mut rng)?;
        }
        let bytes = Tensor::from_slice(&picture.rgb, [1, picture.height, picture.width, 3], Device::Cpu)?;
        let draws = BatchDraws { seed: self.seed(), epoch, items: &[item] };
        let x = self.batch_tfms().apply(&bytes, Subset::Train, &draws, DType::F32)?;
        let mut shown = pictures(&x, self.batch_tfms().statistics())?;
        Ok(Captioned::labelled(shown.remove(0), self.datasets().encode().title(&target))
            .from_file(path.display().to_string()))
    }
}

/// A float batch `[N, H, W, 3]` as pictures: normalisation undone, clamped to 0..1, times 255, truncated, as fastai decodes.
///
/// # Errors
/// [`ErrorKind::Shape`] when it is no batch of RGB pictures.
pub fn pictures(x: &Tensor, normalized_by: Option<Statistics>) -> Result<Vec<Picture>> {
    let [_, height, width, 3] = x.dims4("pictures")? else {
        return Err(Error::new(ErrorKind::Shape, format!("{} are no RGB pictures", x.shape())).on("pictures"));
    };
    let s = normalized_by.unwrap_or(Statistics { mean: [0.0; 3], std: [1.0; 3] });
    let byte = |(i, v): (usize, f64)| {
        let v = v * f64::from(s.std[i % 3]) + f64::from(s.mean[i % 3]);
        (v.clamp(0.0, 1.0) * 255.0) as u8
    };
    let rgb: Vec<u8> = x.to_f64_vec()?.into_iter().enumerate().map(byte).collect();
    Ok(rgb.chunks_exact(height * width * 3).map(|rgb| Picture { width, height, rgb: rgb.to_vec() }).collect())
}

//! A look at the pictures as the network will see them: fastai's `show_batch`.
//!
//! The figure is made of a real training batch, after item and batch transforms and with normalisation undone; what
//! is odd about the pictures there is odd in training.

use crate::data::{BatchDraws, DataLoaders, Picture, Subset};
use crate::plot::{Captioned, Figure, picture_grid};
use crate::rng::{Purpose, Rng};
use crate::{DType, Device, Error, ErrorKind, Result, Tensor};

/// As many as fastai shows.
const MAX_N: usize = 9;

impl DataLoaders {
    /// The first training batch with its labels, at most nine pictures.
    ///
    /// # Errors
    /// When a picture can't be read.
    pub fn show_batch(&self) -> Result<Figure> {
        let batch = self.train.epoch(0).next().ok_or_else(|| Error::new(ErrorKind::Data, "there is no batch"))??;
        let n = batch.len().min(MAX_N);
        let bytes = &batch.bytes[..n * batch.height * batch.width * 3];
        let x = Tensor::from_slice(bytes, [n, batch.height, batch.width, 3], Device::Cpu)?;
        let draws = BatchDraws { seed: self.seed(), epoch: 0, items: &batch.indices[..n] };
        let pictures = self.pictures(&x, &draws)?;
        let label = |&target: &i64| self.vocab()[target as usize].clone();
        let cells: Vec<_> = pictures.into_iter().zip(batch.targets.iter().map(label)).collect();
        picture_grid(&cells.into_iter().map(|(p, l)| Captioned::labelled(p, l)).collect::<Vec<_>>(), None, None)
    }

    /// One training picture nine times, as nine epochs would see it: `show_batch(unique=True)`.
    ///
    /// # Errors
    /// When the picture can't be read.
    pub fn show_batch_unique(&self) -> Result<Figure> {
        let index = *self.train.indices().first().ok_or_else(|| Error::new(ErrorKind::Data, "there is no item"))?;
        let original = self.opener().open(self.train.path(index))?;
        let one = |epoch: u64| -> Result<Captioned> {
            let mut rng = Rng::at(self.seed(), Purpose::ItemTransform, epoch, index as u64);
            let apply = |p, t: &std::sync::Arc<dyn crate::data::ItemTransform>| t.apply(p, Subset::Train, &mut rng);
            let p = self.item_tfms().iter().try_fold(original.clone(), apply)?;
            let x = Tensor::from_slice(&p.rgb, [1, p.height, p.width, 3], Device::Cpu)?;
            let draws = BatchDraws { seed: self.seed(), epoch, items: &[index] };
            let label = &self.vocab()[self.train.target(index) as usize];
            Ok(Captioned::labelled(self.pictures(&x, &draws)?.remove(0), label))
        };
        picture_grid(&(0..MAX_N as u64).map(one).collect::<Result<Vec<_>>>()?, None, None)
    }

    /// Batch transforms on `x [N, H, W, 3]`, and back to bytes.
    fn pictures(&self, x: &Tensor, draws: &BatchDraws<'_>) -> Result<Vec<Picture>> {
        let tfms = self.batch_tfms();
        let y = tfms.apply(x, Subset::Train, draws, DType::F32)?;
        let [_, height, width, _] = y.dims4("show_batch")?;
        let (mean, std) = tfms.statistics().map_or(([0.0; 3], [1.0; 3]), |s| (s.mean, s.std));
        let byte = |(i, v): (usize, &f32)| ((v * std[i % 3] + mean[i % 3]) * 255.0).round().clamp(0.0, 255.0) as u8;
        let values = y.to_vec::<f32>()?;
        let picture = |v: &[f32]| Picture { width, height, rgb: v.iter().enumerate().map(byte).collect() };
        Ok(values.chunks_exact(height * width * 3).map(picture).collect())
    }
}

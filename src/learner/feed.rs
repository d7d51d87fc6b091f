//! The batches of a pass on the device: from the loader, or from pictures that the GPU has kept.
//!
//! A GPU trains faster than any number of processor cores decode JPEGs, so with [`Learner::cache_on_gpu`](super::Learner::cache_on_gpu)
//! the pictures of the first epoch stay in the GPU's memory: as bytes, after the item transforms (635 KB each at 460 x 460, 4.7 GB for
//! the 7,390 pets), before anything that happens on the device. Later epochs open no file and send nothing but indices. A batch
//! of which a picture is missing, because the first epoch dropped it with its last short batch, comes from the loader and is kept
//! then.
//!
//! The price: what the *item* transforms draw at random (where `Resize` crops) is drawn once for each picture instead of once for
//! each epoch. Batch transforms (flip, crop, warp, light) are drawn anew as always.

use crate::data::{Batch, Batches, DataLoader, Targets};
use crate::device::Device;
use crate::ops::{put_rows, take_rows};
use crate::{DType, Result, Tensor};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A batch's bytes on the device `[N, H, W, 3]`, with targets and places in the list of items.
pub(super) struct Fed {
    pub bytes: Tensor,
    pub targets: Targets,
    pub indices: Vec<usize>,
}

/// Pictures that stay on a device.
pub(super) struct Kept {
    device: Device,
    capacity: usize,
    /// `[capacity, H, W, 3]`, once the size is known and if they fit.
    table: Option<Tensor>,
    /// By index in the list of items, the row.
    rows: HashMap<usize, usize>,
    /// Why nothing is kept.
    refused: Option<String>,
}

impl Kept {
    /// Room for `capacity` pictures.
    pub fn new(device: Device, capacity: usize) -> Kept {
        Kept { device, capacity, table: None, rows: HashMap::new(), refused: None }
    }

    /// Why nothing is kept, if so.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn has(&self, indices: &[usize]) -> bool {
        indices.iter().all(|i| self.rows.contains_key(i))
    }

    fn take(&self, indices: &[usize]) -> Option<Result<Tensor>> {
        let rows: Option<Vec<usize>> = indices.iter().map(|i| self.rows.get(i).copied()).collect();
        Some(take_rows(self.table.as_ref()?, &rows?))
    }

    /// Keeps the pictures of a batch that aren't kept yet. Pictures that don't fit are no failure.
    fn keep(&mut self, bytes: &Tensor, indices: &[usize]) -> Result<()> {
        let picture = &bytes.shape()[1..];
        if self.table.is_none() && self.refused.is_none() {
            let needed = self.capacity * picture.iter().product::<usize>();
            match self.make_table(picture, needed) {
                Ok(table) => self.table = Some(table),
                Err(why) => self.refused = Some(why),
            }
        }
        let Some(table) = &mut self.table else { return Ok(()) };
        if table.shape()[1..] != *picture {
            return Ok(());
        }
        let (mut places, mut rows) = (Vec::new(), Vec::new());
        for (place, &index) in indices.iter().enumerate() {
            let next = self.rows.len();
            if next < self.capacity && !self.rows.contains_key(&index) {
                self.rows.insert(index, next);
                places.push(place);
                rows.push(next);
            }
        }
        match places.len() {
            0 => Ok(()),
            n if n == indices.len() => put_rows(table, &rows, bytes),
            _ => put_rows(table, &rows, &take_rows(bytes, &places)?),
        }
    }

    /// At most half of what is free: the network needs room too.
    fn make_table(&self, picture: &[usize], needed: usize) -> std::result::Result<Tensor, String> {
        let free = match self.device {
            Device::Cuda(gpu) => gpu.memory().map_err(|e| e.to_string())?.0,
            Device::Cpu => usize::MAX,
        };
        let mib = |bytes: usize| bytes >> 20;
        if needed > free / 2 {
            let message = "pictures are not kept on the GPU: they need";
            return Err(format!(
                "{message} {} MiB, more than half of the {} MiB that are free",
                mib(needed),
                mib(free)
            ));
        }
        let mut shape = vec![self.capacity];
        shape.extend(picture);
        Tensor::uninit(shape, DType::U8, self.device).map_err(|e| e.to_string())
    }
}

/// One pass, batch after batch.
pub(super) struct Feed {
    loader: DataLoader,
    device: Device,
    kept: Option<Arc<Mutex<Kept>>>,
    /// Batches as indices, and whether the loader makes them.
    order: std::vec::IntoIter<(Vec<usize>, bool)>,
    loading: Batches,
}

impl Feed {
    /// The batches of a pass over `loader`, from batch `first` on.
    pub fn new(
        loader: &DataLoader,
        (epoch, first): (u64, usize),
        device: Device,
        kept: Option<Arc<Mutex<Kept>>>,
    ) -> Feed {
        let loads = |batch: &[usize]| kept.as_ref().is_none_or(|kept| !lock(kept).has(batch));
        let with = |batch: Vec<usize>| {
            let loads = loads(&batch);
            (batch, loads)
        };
        let order: Vec<_> = loader.order(epoch).into_iter().skip(first).map(with).collect();
        let loading = order.iter().filter(|(_, loads)| *loads).map(|(batch, _)| batch.clone()).collect();
        // What is kept is drawn as in the first pass whenever it is loaded: a fit that goes on in another process keeps the same.
        let keeps = kept.as_ref().is_some_and(|kept| lock(kept).refused().is_none());
        let loading = loader.load(if keeps { 0 } else { epoch }, loading);
        Feed { loader: loader.clone(), device, kept, order: order.into_iter(), loading }
    }

    /// How long the consumer has waited for the loader.
    pub fn waited(&self) -> Duration {
        self.loading.waited()
    }

    fn loaded(&self, batch: Batch) -> Result<Fed> {
        let bytes = batch.on_device(self.device)?;
        if let Some(kept) = &self.kept {
            lock(kept).keep(&bytes, &batch.indices)?;
        }
        Ok(Fed { bytes, targets: batch.targets, indices: batch.indices })
    }
}

impl Iterator for Feed {
    type Item = Result<Fed>;

    fn next(&mut self) -> Option<Result<Fed>> {
        let (indices, loads) = self.order.next()?;
        if loads {
            let batch = self.loading.next()?;
            return Some(batch.and_then(|batch| self.loaded(batch)));
        }
        let bytes = self.kept.as_ref().and_then(|kept| lock(kept).take(&indices))?;
        let targets = self.loader.targets().select(&indices);
        Some(bytes.map(|bytes| Fed { bytes, targets, indices }))
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The threads that turn paths into batches, ahead of whoever consumes them.
//!
//! [`Batches`] iterates over one epoch. Each picture of a batch is a task of its own for the loader's thread pool: open,
//! transform, copy into the batch's [`Slab`]; the task that finishes last hands the batch over. Two batches are in the
//! making while the consumer holds a third, so the threads start on the next batch before the last picture of the
//! previous one is done, and no core waits at the end of a batch.
//!
//! **Order and bytes do not depend on the number of threads.** The order is fixed before the first task starts, every
//! picture has a place in the slab, and its random draws have an address (seed, epoch, item).
//!
//! **Memory** is bounded: three slabs of `bs * height * width * 3` bytes (two ahead and the consumer's; at 64 pictures of
//! 460x460, 3 x 40.6 MB), and for each worker one file, one decoded picture, one transformed picture, and a few buffers kept
//! for the next picture. Slabs return to
//! the loader when dropped, and the next batch reuses them.
//!
//! **Failure** ends the iteration: a picture that cannot be opened, a transform that panics, or pictures of different
//! sizes give one `Err` that names the path, and then the iterator is at its end. Among several failures of a batch the
//! first in the batch's order is reported, whichever thread met it first. Dropping the iterator early tells the tasks to
//! stop and waits for those that are running: one picture's time.

use super::block::OpenPicture;
use super::target::Targets;
use super::transform::{self, BatchDraws, BatchTransforms, ItemTransform, Subset};
use crate::rng::{Purpose, Rng};
use crate::{DType, Device, Error, ErrorKind, Result, Tensor};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Batches that are made while the consumer works on the one before them.
const AHEAD: usize = 2;

/// Pictures of one size with their targets.
#[derive(Debug)]
pub struct Batch {
    /// The pictures: `[N, H, W, 3]`, one byte a channel.
    pub bytes: Slab,
    /// Height of the pictures in pixels.
    pub height: usize,
    /// Width of the pictures in pixels.
    pub width: usize,
    /// What the network should say of each picture: class numbers `[N]`, or what the target block makes of labels.
    pub targets: Targets,
    /// Each picture's index in the whole list of items, `[N]`: the address of its random draws.
    pub indices: Vec<usize>,
    /// Each picture's file, `[N]`.
    pub paths: Vec<PathBuf>,
}

impl Batch {
    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// What the model sees of the batch: the bytes on `device`, through `tfms` as `subset` asks, with the draws of `seed` and
    /// `epoch`. `[N, h, w, 3]` of `dtype`. To a GPU the bytes travel beside the computation of the batch before.
    ///
    /// # Errors
    /// The transforms refuse the pictures.
    pub fn inputs(
        &self,
        tfms: &dyn BatchTransforms,
        subset: Subset,
        (seed, epoch): (u64, u64),
        (device, dtype): (Device, DType),
    ) -> Result<Tensor> {
        tfms.apply(&self.on_device(device)?, subset, &BatchDraws { seed, epoch, items: &self.indices }, dtype)
    }

    /// The bytes on `device`: `[N, H, W, 3]`, u8.
    ///
    /// # Errors
    /// The device has too little memory.
    pub fn on_device(&self, device: Device) -> Result<Tensor> {
        Tensor::from_batch(&self.bytes, [self.len(), self.height, self.width, 3], device)
    }

    /// Whether there is none; a loader never yields such a batch.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

/// The bytes of a batch. It behaves as a `[u8]`; dropped, its memory goes back to the loader for another batch.
#[derive(Debug, Default)]
pub struct Slab {
    bytes: Vec<u8>,
    home: Option<Arc<SlabPool>>,
}

impl Slab {
    /// The bytes as a vector; the loader will allocate anew.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.home = None;
        std::mem::take(&mut self.bytes)
    }
}

impl From<Vec<u8>> for Slab {
    fn from(bytes: Vec<u8>) -> Slab {
        Slab { bytes, home: None }
    }
}

impl Deref for Slab {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Slab {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let mut free = lock(&home.free);
            if free.len() <= AHEAD {
                free.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

/// Buffers between two uses.
#[derive(Debug, Default)]
pub(super) struct SlabPool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl SlabPool {
    /// A slab of `len` bytes with anything in them.
    fn take(self: &Arc<SlabPool>, len: usize) -> Result<Slab> {
        let mut bytes = lock(&self.free).pop().unwrap_or_default();
        bytes.truncate(len);
        bytes.try_reserve_exact(len - bytes.len()).map_err(|e| {
            Error::new(ErrorKind::Data, format!("no memory for a batch of {len} bytes"))
                .remedy("use smaller batches or a smaller Resize")
                .caused_by(e)
        })?;
        bytes.resize(len, 0);
        Ok(Slab { bytes, home: Some(self.clone()) })
    }
}

/// A panicking task must not take the loader down with it: the state behind these locks stays consistent, because
/// nothing that can panic runs while one is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every task of a loader needs to know.
#[derive(Clone)]
pub(super) struct Plan {
    pub opener: Arc<dyn OpenPicture>,
    pub item_tfms: Vec<Arc<dyn ItemTransform>>,
    pub subset: Subset,
    pub seed: u64,
    pub items: Arc<Vec<PathBuf>>,
    pub targets: Arc<Targets>, // [items]
}

/// A batch in the making.
struct Job {
    plan: Arc<Plan>,
    epoch: u64,
    indices: Vec<usize>,
    slabs: Arc<SlabPool>,
    cancelled: Arc<AtomicBool>,
    progress: Mutex<Progress>,
    done: Sender<Result<Batch>>,
}

#[derive(Default)]
struct Progress {
    left: usize,
    slab: Slab,
    size: (usize, usize),
    shapes: Vec<(usize, usize)>, // [N] (height, width)
    failure: Option<(usize, Error)>,
}

impl Job {
    /// One task: item number `place` of the batch.
    fn work(&self, place: usize) {
        let made = match self.cancelled.load(Ordering::Relaxed) {
            true => None,
            false => Some(self.make(place)),
        };
        let mut progress = lock(&self.progress);
        match made {
            Some(Ok(picture)) => {
                let stored = self.store(&mut progress, place, &picture);
                stored.unwrap_or_else(|e| progress.fail(place, e));
                picture.recycle();
            }
            Some(Err(e)) => progress.fail(place, e),
            None => {}
        }
        progress.left -= 1;
        if progress.left == 0 && !self.cancelled.load(Ordering::Relaxed) {
            // The consumer may be gone; then nobody wants the batch.
            let _ = self.done.send(self.finish(std::mem::take(&mut progress)));
        }
    }

    fn make(&self, place: usize) -> Result<super::Picture> {
        let (plan, index) = (&self.plan, self.indices[place]);
        let path = &plan.items[index];
        guarded(path, || {
            let picture = plan.opener.open(path)?;
            let mut rng = Rng::at(plan.seed, Purpose::ItemTransform, self.epoch, index as u64);
            transform::run(&plan.item_tfms, picture, plan.subset, &mut rng)
        })
    }

    /// Copies a picture to its place while it is still in the cache. The lock that the caller holds is taken for the
    /// time of one memcpy (635 KB at 460x460, some 50 us, against 2 ms for decoding and resizing).
    fn store(&self, progress: &mut Progress, place: usize, picture: &super::Picture) -> Result<()> {
        let size = (picture.height, picture.width);
        progress.shapes[place] = size;
        let len = picture.rgb.len();
        if progress.slab.is_empty() {
            progress.slab = self.slabs.take(len * self.indices.len())?;
            progress.size = size;
        }
        if progress.size == size {
            progress.slab[place * len..][..len].copy_from_slice(&picture.rgb);
        }
        Ok(())
    }

    fn finish(&self, progress: Progress) -> Result<Batch> {
        if let Some((_, error)) = progress.failure {
            return Err(error);
        }
        let paths: Vec<PathBuf> = self.indices.iter().map(|&i| self.plan.items[i].clone()).collect();
        let shapes = &progress.shapes;
        if let Some(odd) = (0..shapes.len()).find(|&i| shapes[i] != shapes[0]) {
            let differ = sizes_differ(&paths[odd], shapes[odd], &paths[0], shapes[0]);
            let message = format!("{}\n{differ}", collate_text(shapes));
            return Err(Error::new(ErrorKind::Shape, message).on(paths[0].display()).remedy(ONE_SIZE));
        }
        let (height, width) = progress.size;
        let targets = self.plan.targets.select(&self.indices);
        Ok(Batch { bytes: progress.slab, height, width, targets, indices: self.indices.clone(), paths })
    }
}

impl Progress {
    fn fail(&mut self, place: usize, error: Error) {
        if self.failure.as_ref().is_none_or(|(first, _)| place < *first) {
            self.failure = Some((place, error));
        }
    }
}

/// fastai's words for pictures of different sizes; `shapes` are (height, width).
pub(super) fn collate_text(shapes: &[(usize, usize)]) -> String {
    let list: Vec<String> = shapes.iter().map(|(h, w)| format!("torch.Size([3, {h}, {w}])")).collect();
    format!("Could not collate the 0-th members of your tuples because got the following shapes\n{}", list.join(","))
}

/// Which two pictures don't fit into one batch; sizes are (height, width).
pub(super) fn sizes_differ(odd: &Path, (h, w): (usize, usize), first: &Path, (h0, w0): (usize, usize)) -> String {
    let (odd, first) = (odd.display(), first.display());
    format!("{odd} is {w}x{h} after the item transforms, and {first}, the first of the batch, is {w0}x{h0}")
}

/// What to do about pictures that don't fit into one batch.
pub(super) const ONE_SIZE: &str = "add an item transform that makes all pictures one size, such as Resize(460)";

/// Runs `work` on the file at `path`; a panic becomes an error, and every error names the file.
pub(crate) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.on(path.display())),
        Err(panic) => Err(Error::new(ErrorKind::Data, format!("a worker panicked: {}", panic_text(&*panic)))
            .on(path.display())
            .remedy("this is a fault of the decoder or of an item transform, not of the file: report it")),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The batches of one epoch, in order; see [`DataLoader::epoch`](super::DataLoader::epoch).
pub struct Batches {
    plan: Arc<Plan>,
    pool: Arc<rayon::ThreadPool>,
    slabs: Arc<SlabPool>,
    epoch: u64,
    batches: std::vec::IntoIter<Vec<usize>>,
    pending: VecDeque<Receiver<Result<Batch>>>,
    cancelled: Arc<AtomicBool>,
    waited: Duration,
}

impl Batches {
    pub(super) fn new(
        plan: Arc<Plan>,
        pool: Arc<rayon::ThreadPool>,
        slabs: Arc<SlabPool>,
        epoch: u64,
        batches: Vec<Vec<usize>>,
    ) -> Batches {
        let mut batches = Batches {
            plan,
            pool,
            slabs,
            epoch,
            batches: batches.into_iter(),
            pending: VecDeque::new(),
            cancelled: Arc::default(),
            waited: Duration::ZERO,
        };
        batches.fill();
        batches
    }

    /// How long the consumer has waited for batches so far. Compared with the epoch's time it says whether training is
    /// bound by loading.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    fn fill(&mut self) {
        while self.pending.len() < AHEAD
            && let Some(indices) = self.batches.next()
        {
            let (done, receiver) = channel();
            let n = indices.len();
            let job = Arc::new(Job {
                plan: self.plan.clone(),
                epoch: self.epoch,
                indices,
                slabs: self.slabs.clone(),
                cancelled: self.cancelled.clone(),
                progress: Mutex::new(Progress { left: n, shapes: vec![(0, 0); n], ..Progress::default() }),
                done,
            });
            for place in 0..n {
                let job = job.clone();
                self.pool.spawn_fifo(move || job.work(place));
            }
            self.pending.push_back(receiver);
        }
    }

    /// Stops all tasks and waits until none is running: a task's end drops its share of the job, the last one the sender.
    fn stop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.batches = Vec::new().into_iter();
        for receiver in self.pending.drain(..) {
            while receiver.recv().is_ok() {}
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let receiver = self.pending.pop_front()?;
        let start = Instant::now();
        let batch = receiver
            .recv()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Data, "a worker thread ended before its batch was done")));
        self.waited += start.elapsed();
        match batch.is_ok() {
            true => self.fill(),
            false => self.stop(),
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.pending.len() + self.batches.len();
        (left.min(1), Some(left))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop();
    }
}

//! The way of a picture to a batch: decoding, `Resize`, the whole loader, batch transforms. `cargo bench --bench loader`.
//!
//! The pictures are the quickstart's, drawn once into the build folder: JPEGs of 160 to 420 pixels a side; or the JPEGs of the folder
//! that `ONECYCLE_PHOTOS` names, as `benches/peers/run.sh` does, which sets Pillow and fastai beside this. Rates are pictures a second on all threads of the case; the last column is the time per picture. What to compare them with: a training step of
//! ResNet-18 at 224 pixels takes 16 pictures a second and more per core (`cargo bench --bench step`), so as long as one worker
//! brings several times that, data isn't what training waits for.

mod harness;

use harness::Bench;
use onecycle::data::*;
use onecycle::ops::augment::IMAGENET_STATS;
use onecycle::rng::{Purpose, Rng};
use onecycle::vision::{DecodeOptions, ImageBlock, Resize, aug_transforms, decode, open, render_quickstart};
use onecycle::{DType, Device, Error, Result, Tensor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Pictures of the single-threaded cases.
const FEW: usize = 48;
/// Pictures of a pass of the loader.
const PASS: usize = 192;
/// The same, of photographs: a pass of some length, because the other side starts processes for each.
const LONG_PASS: usize = 2000;

fn main() -> Result<()> {
    // All of it is the processor's work.
    let arguments = ["--device", "cpu"].map(String::from).into_iter().chain(harness::arguments()).collect();
    let b = Bench::start("from file to batch", arguments);
    let chosen: Vec<PathBuf> = match std::env::var_os("ONECYCLE_PHOTOS") {
        Some(folder) => {
            let paths = get_image_files(Path::new(&folder))?;
            paths.iter().cycle().take(LONG_PASS).cloned().collect()
        }
        None => {
            let folder = render_quickstart(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("loader-bench"), 42)?;
            let paths = get_image_files(&folder)?;
            // Every tenth or so: all classes.
            paths.iter().step_by(paths.len() / PASS).take(PASS).cloned().collect()
        }
    };
    let files: Vec<Vec<u8>> = chosen.iter().take(FEW).filter_map(|p| std::fs::read(p).ok()).collect();
    let options = DecodeOptions::default();
    let pictures: Vec<Picture> = files.iter().map(|f| decode(f, &options)).collect::<Result<_>>()?;
    let pixels: usize = pictures.iter().map(|p| p.width * p.height).sum();
    println!("{} pictures of {:.0} thousand pixels on average", files.len(), pixels as f64 / files.len() as f64 / 1e3);

    b.items("loader/decode, 1 thread", files.len(), || {
        let t = Instant::now();
        for file in &files {
            decode(file, &options).expect("it decoded before");
        }
        t.elapsed()
    });
    for size in [460, 128] {
        let resize = Resize::new(size);
        b.items(&format!("loader/Resize({size}), 1 thread"), pictures.len(), || {
            let copies = pictures.clone(); // outside the clock: the transform takes its picture
            let t = Instant::now();
            for (i, picture) in copies.into_iter().enumerate() {
                let mut rng = Rng::at(1, Purpose::ItemTransform, 0, i as u64);
                resize.apply(picture, Subset::Train, &mut rng).expect("any picture can be resized");
            }
            t.elapsed()
        });
    }
    b.items("loader/decode, Resize(460), 1 thread", files.len(), || {
        let resize = Resize::new(460);
        let t = Instant::now();
        for path in chosen.iter().take(FEW) {
            let picture = open(path, &options).expect("it decoded before");
            let mut rng = Rng::at(1, Purpose::ItemTransform, 0, 0);
            resize.apply(picture, Subset::Valid, &mut rng).expect("any picture can be resized").recycle();
        }
        t.elapsed()
    });
    for workers in [1, 2] {
        let item_tfms: Vec<Arc<dyn ItemTransform>> = vec![Arc::new(Resize::new(460))];
        let loader = DataLoader::for_files(ImageBlock.opener(), item_tfms, chosen.clone(), None, 64, workers)?;
        b.items(&format!("loader/whole, Resize(460), {workers} workers"), chosen.len(), || {
            let t = Instant::now();
            for batch in loader.epoch(0) {
                drop(batch.expect("the pictures are whole"));
            }
            t.elapsed()
        });
    }
    let kept = tempfile::tempdir().map_err(|e| Error::io("make a folder", &std::env::temp_dir(), e))?;
    let file = kept.path().join("bench.pics");
    for (name, cache) in
        [("kept in memory", Cache::Ram(usize::MAX)), ("kept on disk", Cache::Disk { file, budget: 8 << 30 })]
    {
        if !b.wants(&format!("loader/whole, {name}, 1 workers")) {
            continue;
        }
        let block = DataBlock::new((ImageBlock, RegressionBlock))
            .get_y(getter(|_: &Item| Ok(0.0)))
            .splitter(IndexSplitter::new((1..chosen.len()).collect::<Vec<_>>()))
            .item_tfms(Resize::new(460));
        let dls = block.bs(1).val_bs(64).workers(1).cache(cache).dataloaders(Files(chosen.clone()))?;
        b.items(&format!("loader/whole, {name}, 1 workers"), chosen.len(), || {
            let t = Instant::now();
            dls.valid.epoch(0).for_each(|batch| drop(batch.expect("the pictures are whole")));
            t.elapsed()
        });
    }
    for (from, to, n) in [(460, 224, 64), (128, 96, 64)] {
        let tfms = aug_transforms().size(to).min_scale(0.75).normalize(IMAGENET_STATS);
        let mut rng = Rng::at(3, Purpose::Init, 0, 0);
        let bytes: Vec<u8> = (0..n * from * from * 3).map(|_| rng.next_u32() as u8).collect();
        let bytes = Tensor::from_slice(&bytes, [n, from, from, 3], Device::Cpu)?; // [N, H, W, C]
        let items: Vec<usize> = (0..n).collect();
        for (name, subset) in [("training", Subset::Train), ("validation", Subset::Valid)] {
            b.items(&format!("loader/batch transforms {from} to {to}, {name}"), n, || {
                let t = Instant::now();
                let draws = BatchDraws { seed: 1, epoch: 0, items: &items };
                tfms.apply(&bytes, subset, &draws, DType::F32).expect("the shapes fit");
                t.elapsed()
            });
        }
    }
    Ok(())
}

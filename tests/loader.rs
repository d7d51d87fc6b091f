//! The loader's promises: one order and the same bytes for any number of workers, bounded work ahead, and an error that
//! names the file where something is wrong - never a hang, whatever the workers meet.

use onecycle::data::*;
use onecycle::rng::Rng;
use onecycle::vision::{ImageBlock, Resize};
use onecycle::{ErrorKind, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Makes a picture out of its path and counts how many it made.
#[derive(Clone, Default)]
struct Drawn {
    opened: Arc<AtomicUsize>,
    slow: Duration,
}

impl OpenPicture for Drawn {
    fn name(&self) -> &str {
        "Drawn"
    }

    fn open(&self, path: &Path) -> Result<Picture> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.slow);
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.contains("panic") {
            panic!("cannot draw {name}");
        }
        if name.contains("bad") {
            return Err(onecycle::Error::new(ErrorKind::Image, "no picture").on(path.display()));
        }
        let hash = name.bytes().fold(7usize, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let (width, height) = (20 + hash % 13, 20 + hash / 13 % 11);
        let rgb = (0..width * height * 3).map(|i| ((i * hash) >> 3) as u8).collect();
        Ok(Picture { width, height, rgb })
    }
}

impl InputBlock for Drawn {
    fn opener(self) -> Arc<dyn OpenPicture> {
        Arc::new(self)
    }
}

fn names(n: usize) -> Vec<PathBuf> {
    (0..n).map(|i| format!("set/{}/{i:03}.jpg", ["cat", "dog", "fox"][i % 3]).into()).collect()
}

fn block(opener: Drawn, items: Vec<PathBuf>) -> DataBlock {
    DataBlock::new((opener, CategoryBlock))
        .get_items(move |_| Ok(items.clone()))
        .get_y(parent_label)
        .splitter(RandomSplitter::seed(1))
        .item_tfms(Resize::new(16))
        .bs(8)
}

fn collect(batches: Batches) -> Vec<Batch> {
    batches.map(|b| b.unwrap()).collect()
}

type Seen = Vec<(Vec<u8>, Targets, Vec<usize>, Vec<PathBuf>)>;

fn seen(batches: Batches) -> Seen {
    collect(batches).into_iter().map(|b| (b.bytes.to_vec(), b.targets, b.indices, b.paths)).collect()
}

#[test]
fn order_and_bytes_are_the_same_for_any_number_of_workers() {
    let run = |workers: usize| {
        let dls = block(Drawn::default(), names(70)).workers(workers).seed(5).dataloaders("set").unwrap();
        assert_eq!(dls.train.workers(), workers);
        (0..2).map(|e| (seen(dls.train.epoch(e)), seen(dls.valid.epoch(e)))).collect::<Vec<_>>()
    };
    let one = run(1);
    for workers in [2, 4, 8] {
        assert!(run(workers) == one, "{workers} workers");
    }
    assert!(one[0].0 != one[1].0, "each epoch has an order and crops of its own");
    assert!(one[0].1 == one[1].1, "validation never changes");
    let other = block(Drawn::default(), names(70)).seed(6).dataloaders("set").unwrap();
    assert!(seen(other.train.epoch(0)) != one[0].0, "another seed");
}

#[test]
fn training_is_a_permutation_without_its_tail_and_validation_is_all_in_order() {
    let dls = block(Drawn::default(), names(70)).val_bs(5).dataloaders("set").unwrap();
    let (train, valid) = (dls.datasets().splits().train.clone(), dls.datasets().splits().valid.clone());
    assert_eq!((train.len(), valid.len()), (56, 14));
    let loose = block(Drawn::default(), names(70)).bs(10).dataloaders("set").unwrap();
    assert_eq!((loose.train.len(), loose.train.n_items(), loose.valid.len()), (5, 56, 2));
    let met: Vec<usize> = collect(loose.train.epoch(0)).iter().flat_map(|b| b.indices.clone()).collect();
    assert_eq!(met.len(), 50);
    assert_eq!(met.iter().collect::<HashSet<_>>().len(), 50);
    assert!(met.iter().all(|i| train.contains(i)) && met[..] != train[..50]);
    let batches = collect(dls.valid.epoch(0));
    assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [5, 5, 4]);
    assert_eq!(batches.iter().flat_map(|b| b.indices.clone()).collect::<Vec<_>>(), valid);
    for batch in &batches {
        assert_eq!(batch.bytes.len(), batch.len() * batch.height * batch.width * 3);
        for ((path, target), index) in batch.paths.iter().zip(batch.targets.categories().unwrap()).zip(&batch.indices) {
            assert_eq!(path, dls.valid.path(*index));
            assert_eq!(dls.vocab()[*target as usize], parent_label(path).unwrap());
        }
    }
}

#[test]
fn a_pass_can_start_in_the_middle() {
    let dls = block(Drawn::default(), names(70)).dataloaders("set").unwrap();
    assert!(seen(dls.train.epoch_from(3, 2)) == seen(dls.train.epoch(3))[2..]);
    assert_eq!(dls.train.epoch_from(3, 100).count(), 0);
}

#[test]
fn work_ahead_is_bounded_and_slabs_are_used_again() {
    let opener = Drawn::default();
    let dls = block(opener.clone(), names(100)).workers(4).dataloaders("set").unwrap();
    let mut batches = dls.train.epoch(0);
    let first = batches.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(opener.opened.load(Ordering::SeqCst), 3 * 8, "the one in hand and two ahead");
    let mut places = HashSet::from([first.bytes.as_ptr()]);
    drop(first);
    for batch in batches {
        places.insert(batch.unwrap().bytes.as_ptr());
    }
    assert!(places.len() <= 4, "{} different slabs", places.len());
}

#[test]
fn a_kept_slab_is_not_overwritten() {
    let dls = block(Drawn::default(), names(100)).dataloaders("set").unwrap();
    let kept = collect(dls.train.epoch(0));
    let copies: Vec<Vec<u8>> = kept.iter().map(|b| b.bytes.to_vec()).collect();
    drop(collect(dls.train.epoch(1)));
    assert!(kept.into_iter().zip(copies).all(|(b, c)| b.bytes.into_vec() == c));
}

#[test]
fn a_dropped_iterator_stops_its_workers_promptly() {
    let opener = Drawn { slow: Duration::from_millis(20), ..Drawn::default() };
    let dls = block(opener.clone(), names(400)).bs(64).workers(2).dataloaders("set").unwrap();
    let batches = dls.train.epoch(0);
    std::thread::sleep(Duration::from_millis(60));
    let start = Instant::now();
    drop(batches);
    // 128 pictures were asked for, which would take 1.3 s.
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    let after = opener.opened.load(Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(opener.opened.load(Ordering::SeqCst), after, "nobody works for a dropped iterator");
    let quick = dls.valid.epoch(0).next();
    assert!(quick.unwrap().is_ok(), "the loader still works");
}

#[test]
fn waiting_is_measured() {
    let opener = Drawn { slow: Duration::from_millis(2), ..Drawn::default() };
    let dls = block(opener, names(40)).workers(1).dataloaders("set").unwrap();
    let mut batches = dls.train.epoch(0);
    assert!(batches.by_ref().all(|b| b.is_ok()));
    assert!(batches.waited() > Duration::from_millis(20), "{:?}", batches.waited());
}

/// Fails the test instead of hanging the suite.
fn ends(batches: Batches) -> Vec<Result<Batch>> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(batches.collect::<Vec<_>>()));
    receive.recv_timeout(Duration::from_secs(20)).expect("the iteration hangs")
}

#[test]
fn a_bad_file_ends_the_pass_with_its_name() {
    for workers in [1, 4] {
        for name in ["set/dog/bad.jpg", "set/dog/panic.jpg"] {
            let mut items = names(60);
            items[30] = name.into();
            let dls = block(Drawn::default(), items).splitter(IndexSplitter::new([0, 1, 2])).workers(workers);
            let dls = dls.dataloaders("set").unwrap();
            let mut results = ends(dls.train.epoch(0));
            let last = results.pop().unwrap().unwrap_err();
            assert_eq!(last.item(), Some(name), "{last}");
            assert!(results.iter().all(|r| r.is_ok()));
            assert!(ends(dls.valid.epoch(0)).iter().all(|r| r.is_ok()), "the workers live on");
        }
    }
}

#[test]
fn the_first_failure_of_a_batch_is_reported_by_any_number_of_workers() {
    let mut items = names(16);
    items[2] = "set/cat/bad_a.jpg".into();
    items[5] = "set/cat/bad_b.jpg".into();
    for workers in [1, 8] {
        let (opener, paths) = (Arc::new(Drawn::default()), items.clone());
        let loader = DataLoader::for_files(opener, vec![], paths, None, 16, workers).unwrap();
        let error = ends(loader.epoch(0)).pop().unwrap().unwrap_err();
        assert_eq!(error.item(), Some("set/cat/bad_a.jpg"));
    }
}

#[test]
fn pictures_of_different_sizes_are_named() {
    let loader = DataLoader::for_files(Arc::new(Drawn::default()), vec![], names(6), None, 6, 2).unwrap();
    let error = ends(loader.epoch(0)).pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    let text = error.to_string();
    assert!(
        text.contains("Could not collate the 0-th members of your tuples because got the following shapes"),
        "{text}"
    );
    assert!(text.contains("torch.Size([3, "), "{text}");
    assert!(text.contains("000.jpg") && text.contains("001.jpg") && text.contains("Resize"), "{text}");
}

#[test]
fn a_panicking_transform_is_an_error() {
    #[derive(Debug)]
    struct Faulty;
    impl ItemTransform for Faulty {
        fn describe(&self) -> String {
            "Faulty".into()
        }
        fn order(&self) -> i32 {
            2
        }
        fn apply(&self, picture: Picture, _: Subset, _: &mut Rng) -> Result<Picture> {
            let beyond = picture.rgb.len();
            Ok(Picture { rgb: vec![picture.rgb[beyond]], ..picture })
        }
        fn settings(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
    }
    let tfms = (Resize::new(8), Faulty).into_list();
    let loader = DataLoader::for_files(Arc::new(Drawn::default()), tfms, names(3), None, 2, 2).unwrap();
    let error = ends(loader.epoch(0)).pop().unwrap().unwrap_err().to_string();
    assert!(error.contains("panicked") && error.contains("000.jpg"), "{error}");
}

#[test]
fn faults_of_the_data_set_are_explained() {
    let fails = |block: DataBlock| block.dataloaders("set").err().expect("an error");
    let e = fails(block(Drawn::default(), names(20)).bs(64));
    assert!(e.to_string().contains("does not contain any batches") && e.to_string().contains("bs("), "{e}");
    let e = fails(block(Drawn::default(), vec!["set/cat/1.jpg".into(), "set/cat/2.jpg".into()]).bs(1));
    assert!(e.kind() == ErrorKind::Data && e.to_string().contains("'cat'"), "{e}");
    let e = fails(block(Drawn::default(), names(20)).splitter(FuncSplitter::new(|p: &Path| p.starts_with("set/fox"))));
    assert_eq!(e.message(), "Label 'fox' was not included in the training dataset");
    assert_eq!(e.item(), Some("set/fox/002.jpg"));
    let e = fails(block(Drawn::default(), vec![]));
    assert!(e.kind() == ErrorKind::Data && e.to_string().contains("no items"), "{e}");
    let e = fails(block(Drawn::default(), names(20)).bs(0));
    assert_eq!(e.kind(), ErrorKind::Argument);
    let nameless = DataBlock::new((Drawn::default(), CategoryBlock)).get_items(|_| Ok(names(9)));
    assert!(fails(nameless).to_string().contains("get_y"));
}

#[test]
fn files_that_are_no_pictures_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let good = image::RgbImage::from_fn(20, 30, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, 3]));
    for i in 0..20 {
        good.save(dir.path().join(format!("{}_{i}.png", ["cat", "dog"][i % 2]))).unwrap();
    }
    let truncated = std::fs::read(dir.path().join("cat_0.png")).unwrap();
    std::fs::write(dir.path().join("dog_90.png"), &truncated[..truncated.len() / 2]).unwrap();
    std::fs::write(dir.path().join("cat_91.jpg"), "<html>").unwrap();
    let labels = using_attr(RegexLabeller::new(r"(.+)_\d+\..*$").unwrap(), "name");
    let block = DataBlock::new((ImageBlock, CategoryBlock)).get_y(labels).item_tfms(Resize::new(8));
    let block = block.splitter(RandomSplitter::new(0.0, 1)).bs(11);
    let error = block.dataloaders(dir.path()).unwrap();
    let error = ends(error.train.epoch(0)).into_iter().find_map(|r| r.err()).unwrap();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    let dls = block.bs(5).skip_bad(true).dataloaders(dir.path()).unwrap();
    let skipped: Vec<_> = dls.skipped().iter().map(|(p, _)| p.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(skipped, ["cat_91.jpg", "dog_90.png"]);
    assert!(dls.skipped().iter().all(|(_, why)| why.contains("web page") || why.contains("damaged")));
    assert_eq!((dls.train.n_items(), dls.train.len()), (20, 4));
    assert!(ends(dls.train.epoch(0)).iter().all(|r| r.is_ok()));
    assert!(dir.path().join("cat_91.jpg").exists(), "nothing is deleted");

    // A file that vanishes after the listing.
    std::fs::remove_file(dir.path().join("cat_4.png")).unwrap();
    let error = ends(dls.train.epoch(0)).pop().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains("cat_4.png"), "{error}");
}

#[test]
fn other_files_through_the_validation_pipeline() {
    let dls = block(Drawn::default(), names(70)).dataloaders("set").unwrap();
    let files: Vec<PathBuf> = dls.valid.indices().iter().map(|&i| dls.valid.path(i).to_owned()).collect();
    let labels: Vec<String> = files.iter().map(|p| parent_label(p).unwrap()).collect();
    let again = dls.test_loader(files.clone(), Some(&labels)).unwrap();
    let (a, b) = (seen(again.epoch(0)), seen(dls.valid.epoch(0)));
    assert!(a.iter().zip(&b).all(|(a, b)| (&a.0, &a.1, &a.3) == (&b.0, &b.1, &b.3)) && a.len() == b.len());
    let blind = dls.test_loader::<&str>(files.clone(), None).unwrap();
    assert!(collect(blind.epoch(0)).iter().all(|b| b.targets == Targets::unknown(b.len())));
    let e = dls.test_loader(files.clone(), Some(&["cat", "owl"])).err().unwrap();
    assert!(e.message() == "Label 'owl' was not included in the training dataset" && e.item().is_some(), "{e}");
    assert!(dls.test_loader(files[..2].to_vec(), Some(&["cat"; 3])).is_err());
}

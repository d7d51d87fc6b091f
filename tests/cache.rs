//! Kept pictures are the pictures: the same batches with any cache, in the first run and in the next, whatever happened to the
//! file in between.

use onecycle::data::*;
use onecycle::vision::{DecodeOptions, ImageBlock, Resize};
use onecycle::{ErrorKind, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// Counts what the real opener opens.
#[derive(Clone)]
struct Counting {
    inner: Arc<dyn OpenPicture>,
    opened: Arc<AtomicUsize>,
    fingerprint: Option<&'static str>,
}

impl Counting {
    fn new() -> Counting {
        Counting { inner: ImageBlock.opener(), opened: Arc::default(), fingerprint: Some("counting 1") }
    }

    fn count(&self) -> usize {
        self.opened.swap(0, Ordering::SeqCst)
    }
}

impl OpenPicture for Counting {
    fn name(&self) -> &str {
        "Counting"
    }
    fn open(&self, path: &Path) -> Result<Picture> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.inner.open(path)
    }
    fn fingerprint(&self) -> Option<String> {
        self.fingerprint.map(Into::into)
    }
}

impl InputBlock for Counting {
    fn opener(self) -> Arc<dyn OpenPicture> {
        Arc::new(self)
    }
}

/// A picture of its own for each number.
fn draw(path: &Path, number: u32) {
    let (w, h) = (20 + number % 7, 24 + number % 5);
    let pixel = |x: u32, y: u32| image::Rgb([x * 9 + number, y * 7, number * 3].map(|v| (v % 256) as u8));
    image::RgbImage::from_fn(w, h, pixel).save(path).unwrap();
}

const N: usize = 24;
/// At most 26 x 28 pixels each, padded.
const BYTES: u64 = 26 * 28 * 3 + 64;

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        for class in ["cat", "dog"] {
            fs::create_dir_all(dir.path().join("pets").join(class)).unwrap();
        }
        let folder = Folder { dir };
        (0..N).for_each(|i| draw(&folder.picture(i), i as u32));
        folder
    }

    fn picture(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("pets/{}/ü {i:02}.png", ["cat", "dog"][i % 2]))
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("kept/pets.pics")
    }

    fn disk(&self) -> Cache {
        Cache::Disk { file: self.file(), budget: 1 << 20 }
    }

    fn loaders(&self, opener: &Counting, cache: Cache) -> Result<DataLoaders> {
        let block =
            DataBlock::new((opener.clone(), CategoryBlock)).get_y(parent_label).splitter(RandomSplitter::seed(1));
        block.item_tfms(Resize::new(16)).bs(4).workers(2).cache(cache).dataloaders(self.dir.path().join("pets"))
    }
}

fn batches(dls: &DataLoaders) -> Vec<(Vec<u8>, Vec<PathBuf>)> {
    // One pass after the other, as in a training: passes that overlap may both decode a picture that neither has kept yet.
    let passes = [(&dls.train, 0), (&dls.valid, 0), (&dls.train, 1)];
    let batches = passes.into_iter().flat_map(|(loader, epoch)| loader.epoch(epoch));
    batches.map(|b| b.unwrap()).map(|b| (b.bytes.to_vec(), b.paths)).collect()
}

/// (pictures, decoded, left_out) of the file.
fn on_disk(dls: &DataLoaders) -> (usize, usize, usize) {
    match *dls.kept() {
        Kept::OnDisk { pictures, decoded, left_out, .. } => (pictures, decoded, left_out),
        ref other => panic!("{other}"),
    }
}

#[test]
fn every_cache_gives_the_same_batches() {
    let (folder, opener) = (Folder::new(), Counting::new());
    let plain = folder.loaders(&opener, Cache::Off).unwrap();
    let expected = batches(&plain);
    let uses = opener.count();
    assert_eq!((plain.kept(), uses), (&Kept::Nothing, 20 + 4 + 20));

    for cache in [Cache::Auto, Cache::Ram(usize::MAX)] {
        let dls = folder.loaders(&opener, cache).unwrap();
        assert!(batches(&dls) == expected && batches(&dls) == expected);
        assert_eq!(opener.count(), N, "each file once: {}", dls.kept());
    }
    let first = folder.loaders(&opener, folder.disk()).unwrap();
    assert_eq!((on_disk(&first), opener.count()), ((N, N, 0), N));
    assert!(batches(&first) == expected);
    let next = folder.loaders(&opener, folder.disk()).unwrap();
    assert!(batches(&next) == expected);
    assert_eq!((on_disk(&next), opener.count()), ((N, 0, 0), 0), "{}", next.kept());
    assert!(next.kept().to_string().starts_with("24 decoded pictures are in "), "{}", next.kept());
}

#[test]
fn only_what_changed_is_decoded_again() {
    let (folder, opener) = (Folder::new(), Counting::new());
    folder.loaders(&opener, folder.disk()).unwrap();
    let whole = folder.file().metadata().unwrap().len();
    draw(&folder.picture(3), 200);
    // Time stamps may be as coarse as two seconds.
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::File::options().write(true).open(folder.picture(3)).unwrap().set_modified(later).unwrap();
    draw(&folder.picture(N), 7);
    fs::remove_file(folder.picture(5)).unwrap();
    fs::remove_file(folder.picture(7)).unwrap();
    opener.count();
    let dls = folder.loaders(&opener, folder.disk()).unwrap();
    assert_eq!((on_disk(&dls), opener.count()), ((N - 1, 2, 0), 2));
    assert!(batches(&dls) == batches(&folder.loaders(&opener, Cache::Off).unwrap()));
    assert!(folder.file().metadata().unwrap().len() < whole, "what is gone is not kept");
}

#[test]
fn a_budget_ends_the_file_and_a_larger_one_completes_it() {
    let (folder, opener) = (Folder::new(), Counting::new());
    let small = Cache::Disk { file: folder.file(), budget: 10 * BYTES };
    let dls = folder.loaders(&opener, small.clone()).unwrap();
    let (pictures, decoded, left_out) = on_disk(&dls);
    assert!((10..N).contains(&pictures) && pictures == decoded && left_out == N - pictures, "{}", dls.kept());
    assert!(dls.kept().to_string().contains("had no room"), "{}", dls.kept());
    let expected = batches(&folder.loaders(&opener, Cache::Off).unwrap());
    assert!(batches(&dls) == expected);
    opener.count();
    let again = folder.loaders(&opener, small).unwrap();
    assert_eq!((on_disk(&again), opener.count()), ((pictures, 0, left_out), 0), "a full file is not tried again");
    let more = folder.loaders(&opener, folder.disk()).unwrap();
    assert_eq!((on_disk(&more), opener.count()), ((N, N - pictures, 0), N - pictures));
    assert!(batches(&more) == expected);
}

#[test]
fn a_damaged_file_is_written_anew() {
    let (folder, opener) = (Folder::new(), Counting::new());
    let expected = batches(&folder.loaders(&opener, folder.disk()).unwrap());
    let good = fs::read(folder.file()).unwrap();
    let end = good.len();
    let mut cases: Vec<Vec<u8>> = [0, 1, 31, 32, 33, end / 2, end - 33, end - 1].map(|n| good[..n].to_vec()).into();
    // The trailer's 32 bytes, and places all over the index.
    let index = u64::from_le_bytes(good[end - 32..end - 24].try_into().unwrap()) as usize;
    for at in (index..end).step_by(97).chain(end - 32..end) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        cases.push(bytes);
    }
    // An index that is whole and lies.
    for lie in ["\"start\":18446744073709551615,", "\"start\":999999,", "\"start\":-1,"] {
        let json = String::from_utf8_lossy(&good[index..end - 32]).replace("\"start\":0,", lie);
        let trailer = [(index as u64).to_le_bytes(), (json.len() as u64).to_le_bytes()].concat();
        let sum = crc32fast::hash(json.as_bytes()).to_le_bytes();
        cases.push([&good[..index], json.as_bytes(), &trailer, &sum, b"onecycle p1\n"].concat());
    }
    for bytes in &cases {
        fs::write(folder.file(), bytes).unwrap();
        let dls = folder.loaders(&opener, folder.disk()).unwrap();
        assert_eq!(on_disk(&dls), (N, N, 0));
        assert!(batches(&dls) == expected);
    }
    // Damaged pixels are noticed when they are used.
    let mut bytes = good.clone();
    bytes[100] ^= 1;
    fs::write(folder.file(), &bytes).unwrap();
    let dls = folder.loaders(&opener, folder.disk()).unwrap();
    opener.count();
    assert!(on_disk(&dls) == (N, 0, 0) && batches(&dls) == expected);
    assert!((1..3).contains(&opener.count()), "that picture is decoded, and no other");
}

#[test]
fn a_file_cut_while_it_is_used_costs_time_and_nothing_else() {
    let (folder, opener) = (Folder::new(), Counting::new());
    let dls = folder.loaders(&opener, folder.disk()).unwrap();
    fs::File::options().write(true).open(folder.file()).unwrap().set_len(1000).unwrap();
    assert!(batches(&dls) == batches(&folder.loaders(&opener, Cache::Off).unwrap()));
}

#[test]
fn what_is_no_picture_fails_as_without_a_cache() {
    let (folder, opener) = (Folder::new(), Counting::new());
    fs::write(folder.picture(4), "<html>").unwrap();
    let text = |cache: Cache| {
        let dls = folder.loaders(&opener, cache).unwrap();
        let passes = dls.train.epoch(0).chain(dls.valid.epoch(0));
        passes.filter_map(|b| b.err()).map(|e| e.to_string()).next().unwrap()
    };
    let plain = text(Cache::Off);
    assert!(plain.contains("ü 04.png") && plain.contains("web page"), "{plain}");
    assert_eq!(text(folder.disk()), plain);
    opener.count();
    let dls = folder.loaders(&opener, folder.disk()).unwrap();
    assert_eq!((on_disk(&dls), opener.count()), ((N - 1, 0, 0), 0), "it isn't decoded in every run");
    let block = DataBlock::new((opener.clone(), CategoryBlock)).get_y(parent_label).item_tfms(Resize::new(16)).bs(4);
    let dls = block.skip_bad(true).cache(folder.disk()).dataloaders(folder.dir.path().join("pets")).unwrap();
    assert_eq!((dls.skipped().len(), opener.count()), (1, 2), "the bad one twice, the others not at all");
}

#[test]
fn other_options_mean_other_pictures() {
    let folder = Folder::new();
    let load = |options: DecodeOptions| {
        let block = DataBlock::new((ImageBlock::with(options), CategoryBlock)).get_y(parent_label);
        let dls =
            block.item_tfms(Resize::new(16)).bs(4).cache(folder.disk()).dataloaders(folder.dir.path().join("pets"));
        on_disk(&dls.unwrap()).1
    };
    assert_eq!(load(DecodeOptions::default()), N);
    assert_eq!(load(DecodeOptions::default()), 0);
    assert_eq!(load(DecodeOptions { allow_truncated: true, ..DecodeOptions::default() }), N);

    let nameless = Counting { fingerprint: None, ..Counting::new() };
    let error = folder.loaders(&nameless, folder.disk()).err().unwrap();
    assert!(error.kind() == ErrorKind::Argument && error.to_string().contains("fingerprint"), "{error}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_stays_behind() {
    let (folder, opener) = (Folder::new(), Counting::new());
    fs::create_dir_all(folder.file()).unwrap(); // a folder where the file should be
    let error = folder.loaders(&opener, folder.disk()).err().unwrap();
    assert!(error.to_string().contains("pets.pics"), "{error}");
    let names: Vec<_> = fs::read_dir(folder.dir.path().join("kept")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["pets.pics"]);
}

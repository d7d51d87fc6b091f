//! From settings to data: which pictures, which labels, which split, and where decoded pictures are kept.

use super::Context;
use super::flags::{CacheRule, ExifRule, TruncatedRule};
use super::settings::DataSettings;
use crate::data::{
    Cache, CategoryBlock, Col, ColReader, ColSplitter, DataBlock, DataLoaders, Datasets, GrandparentSplitter, Kept,
    Labeller, RandomSplitter, RegexLabeller, Splitter, Table, get_image_files, parent_label, using_attr,
};
use crate::ops::augment::IMAGENET_STATS;
use crate::vision::{DecodeOptions, ImageBlock, Resize, aug_transforms};
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The same pictures validate whatever the seed, so that the runs of several seeds can be compared.
const SPLIT_SEED: u64 = 42;

/// The article's labeller: `great_pyrenees_105.jpg` is a `great_pyrenees`.
pub const ARTICLES_LABEL_RE: &str = r"(.+)_\d+.jpg$";

/// The data set that the settings describe. Of a table it is `Table`'s rows that are its items, and of a folder its pictures.
///
/// # Errors
/// When the labels' expression is none, or there is no place for the cache's file.
pub fn data_block(d: &DataSettings, dir: &Path, seed: u64) -> Result<DataBlock> {
    let budget = d.cache_gb.map(|gb| gb * 1e9);
    let cache = match d.cache {
        // What the GPU can't take is at least decoded only once.
        CacheRule::Auto | CacheRule::Gpu => budget.map_or(Cache::Auto, |bytes| Cache::Ram(bytes as usize)),
        CacheRule::Ram => Cache::Ram(budget.map_or(usize::MAX, |bytes| bytes as usize)),
        CacheRule::Disk => Cache::Disk { file: cache_file(dir)?, budget: budget.unwrap_or(50e9) as u64 },
        CacheRule::Off => Cache::Off,
    };
    let block = DataBlock::new((ImageBlock::with(decode_options(d)), CategoryBlock))
        .item_tfms(Resize::new(d.item_size))
        .batch_tfms(aug_transforms().size(d.size).min_scale(d.min_scale).normalize(IMAGENET_STATS))
        .bs(d.bs)
        .val_bs(d.val_bs)
        .workers(d.workers.unwrap_or(0))
        .cache(cache)
        .skip_bad(d.skip_bad)
        .seed(seed);
    let block = block.splitter(splitter(d));
    if d.csv.is_some() {
        let x = ColReader::new(column(d.x.as_deref(), 0)).folder(dir).suff(d.suff.as_deref().unwrap_or_default());
        return Ok(block.get_x(x).get_y(ColReader::new(column(d.y.as_deref(), 1))));
    }
    let block = match &d.label_re {
        Some(pattern) => block.get_y(using_attr(RegexLabeller::new(pattern)?, "name")),
        None => block.get_y(parent_label),
    };
    let Some(classes) = d.classes.clone() else { return Ok(block.get_items(get_image_files)) };
    let labeller = labeller(d.label_re.as_deref())?;
    Ok(block.get_items(move |dir: &Path| of_classes(get_image_files(dir)?, &*labeller, &classes)))
}

/// A column by its name, or by its position from 0 where the name is a number.
fn column(name: Option<&str>, usual: usize) -> Col {
    match name {
        None => usual.into(),
        Some(name) => name.parse::<usize>().map_or_else(|_| name.into(), Col::from),
    }
}

/// The files whose labels are among `classes`.
fn of_classes(files: Vec<PathBuf>, labeller: &dyn Labeller, classes: &[String]) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    let mut found = vec![false; classes.len()];
    for file in files {
        let label = labeller.label(&file)?;
        if let Some(place) = classes.iter().position(|class| *class == label) {
            found[place] = true;
            kept.push(file);
        }
    }
    match found.iter().position(|found| !found) {
        None => Ok(kept),
        Some(place) => {
            Err(Error::new(ErrorKind::Label, format!("no picture is of the class `{}`", classes[place]))
                .on("--classes"))
        }
    }
}

/// The file's labeller: its folder's name, or an expression on its own.
///
/// # Errors
/// The expression is none.
pub fn labeller(label_re: Option<&str>) -> Result<Box<dyn Labeller>> {
    Ok(match label_re {
        Some(pattern) => Box::new(using_attr(RegexLabeller::new(pattern)?, "name")),
        None => Box::new(parent_label),
    })
}

/// Where a folder's decoded pictures are kept: by its name, for people, and by a number of its whole path, for folders of one name.
fn cache_file(dir: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(dir).map_err(|e| Error::io("find the folder", dir, e))?;
    // FNV-1a: a name, not a proof. What is in the file is looked up by path.
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let number = whole.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix);
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    Ok(cache_dir().join(format!("{name}-{number:016x}.pics")))
}

/// Where things are kept that can be made again: `ONECYCLE_CACHE`, else `cache` in `ONECYCLE_HOME`, else the user's cache directory, else
/// the system's temporary one.
pub fn cache_dir() -> PathBuf {
    let dir = |name: &str| crate::fetch::variable(name).map(PathBuf::from);
    dir("ONECYCLE_CACHE")
        .or_else(|| dir(crate::fetch::HOME).map(|d| d.join("cache")))
        .or_else(|| dir("XDG_CACHE_HOME").map(|d| d.join("onecycle")))
        .or_else(|| dir("LOCALAPPDATA").map(|d| d.join("onecycle")))
        .or_else(|| dir("HOME").map(|d| d.join(".cache/onecycle")))
        .unwrap_or_else(|| std::env::temp_dir().join("onecycle"))
}

/// The split that the settings describe.
pub fn splitter(d: &DataSettings) -> Box<dyn Splitter> {
    if let Some(col) = &d.valid_col {
        return Box::new(ColSplitter::new(column(Some(col), 0)));
    }
    match (&d.train, &d.valid) {
        (Some(train), Some(valid)) => Box::new(GrandparentSplitter::new(train.as_str(), valid.as_str())),
        _ => Box::new(RandomSplitter::new(d.valid_pct, SPLIT_SEED)),
    }
}

/// How the settings open files.
pub fn decode_options(d: &DataSettings) -> DecodeOptions {
    DecodeOptions {
        allow_truncated: d.truncated == TruncatedRule::Warn,
        apply_orientation: d.exif == ExifRule::Apply,
        ..DecodeOptions::default()
    }
}

/// The items, labelled and split, without loaders.
///
/// # Errors
/// When the data can't be trained on.
pub fn datasets(d: &DataSettings, dir: &Path, seed: u64) -> Result<Datasets> {
    let block = data_block(d, dir, seed)?;
    match &d.csv {
        Some(csv) => block.datasets(&Table::read_csv(csv)?),
        None => block.datasets(dir),
    }
}

/// Loads the data and says what was left out.
///
/// # Errors
/// When the data can't be trained on.
pub fn load(d: &DataSettings, dir: &Path, seed: u64, context: &Context) -> Result<DataLoaders> {
    let block = data_block(d, dir, seed)?;
    let dls = match &d.csv {
        Some(csv) => block.dataloaders(&Table::read_csv(csv)?)?,
        None => block.dataloaders(dir)?,
    };
    match dls.kept() {
        Kept::OnDisk { .. } => context.console.note(&dls.kept().to_string()),
        kept => context.console.detail(&kept.to_string()),
    }
    for (path, reason) in dls.skipped() {
        context.console.note(&format!("left out: {reason} [{}]", path.display()));
    }
    if !dls.skipped().is_empty() {
        context.console.note(&format!("{} unreadable files were left out; none was changed", dls.skipped().len()));
    }
    Ok(dls)
}

/// The classes of files, as places in a model's vocabulary: by their folders, or by an expression on their names.
///
/// # Errors
/// [`ErrorKind::Label`] naming the first file whose label is no class of the model.
pub fn targets(paths: &[PathBuf], label_re: Option<&str>, vocab: &[String]) -> Result<Vec<i64>> {
    let labeller = labeller(label_re)?;
    let target = |path: &PathBuf| {
        let label = labeller.label(path)?;
        let place = vocab.iter().position(|v| *v == label);
        place.map(|p| p as i64).ok_or_else(|| {
            Error::new(ErrorKind::Label, format!("the model knows no class `{label}`"))
                .on(path.display())
                .remedy(format!("its classes are {}; --label-re takes labels from file names", vocab.join(", ")))
        })
    };
    paths.iter().map(target).collect()
}

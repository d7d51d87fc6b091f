//! The quickstart's data set, drawn on the spot: nothing to download, nothing to license.
//!
//! [`render_quickstart`] draws 1,200 photo-like JPEGs of six kinds of objects: fish, key, leaf, mug, mushroom, umbrella.
//! They are meant to be a small real problem, not a toy. A class has favourite colours, as things have, but they overlap, and
//! backgrounds and distractors have them too; size, place, rotation, aspect, light, blur and sensor noise vary; other shapes lie
//! around; some classes share parts (a mushroom and an umbrella are both domes on a stick).
//!
//! The set is a function of the seed: the same seed gives the same bytes on the same platform (elsewhere a sine may round
//! differently). Files are named `umbrella_12.jpg`, for the article's regular expression. Rendering takes a few seconds on two cores and is done once: a marker written last says
//! that the folder is complete, and a folder without it is drawn again.
//!
//! `shapes.rs` describes the objects as signed distances, `scene.rs` paints them.

mod scene;
mod shapes;

use crate::data::Picture;
use crate::rng::{Purpose, Rng};
use crate::{Error, ErrorKind, Result, fs};
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The classes, in the order of their numbers.
pub const QUICKSTART_CLASSES: [&str; 6] = ["fish", "key", "leaf", "mug", "mushroom", "umbrella"];

/// Pictures of each class.
pub const QUICKSTART_PER_CLASS: usize = 200;

/// Changes when the same seed gives other pictures.
const VERSION: u32 = 3;

/// Draws the set into a folder below `dir`, unless it is there already, and returns that folder.
///
/// # Errors
/// `dir` cannot be written; a full disk has a kind of its own.
///
/// ```no_run
/// # fn main() -> onecycle::Result<()> {
/// use onecycle::{data::*, vision::*};
/// let path = render_quickstart(std::path::Path::new("cache"), 42)?;
/// let dls = DataBlock::new((ImageBlock, CategoryBlock))
///     .get_y(using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name"))
///     .splitter(RandomSplitter::seed(42))
///     .item_tfms(Resize::new(80))
///     .dataloaders(&path)?;
/// assert_eq!(dls.c(), 6);
/// # Ok(())
/// # }
/// ```
pub fn render_quickstart(dir: &Path, seed: u64) -> Result<PathBuf> {
    let folder = dir.join(format!("quickstart-{VERSION}-{seed}"));
    let marker = folder.join(".complete");
    if marker.is_file() {
        return Ok(folder);
    }
    fs::create_dir(&folder)?;
    let draw = |i: usize| -> Result<()> {
        let (class, number) = (i / QUICKSTART_PER_CLASS, i % QUICKSTART_PER_CLASS + 1);
        let path = folder.join(format!("{}_{number}.jpg", QUICKSTART_CLASSES[class]));
        let mut rng = Rng::at(seed, Purpose::Picture, 0, i as u64);
        let picture = scene::paint(class, &mut rng);
        put(&path, &encode(&picture, 82 + rng.below(14) as u8)?)
    };
    // A pool of its own: the program around the library may be using rayon's global one.
    let pool = rayon::ThreadPoolBuilder::new().build().map_err(|e| {
        Error::new(ErrorKind::Io, "threads to draw pictures cannot be started").on("quickstart").caused_by(e)
    })?;
    pool.install(|| (0..QUICKSTART_CLASSES.len() * QUICKSTART_PER_CLASS).into_par_iter().try_for_each(draw))?;
    fs::write_atomic(&marker, |w| writeln!(w, "version {VERSION}, seed {seed}"))?;
    Ok(folder)
}

/// One picture of the set without the set, for showing and testing: `class` counts in [`QUICKSTART_CLASSES`].
pub fn quickstart_picture(class: usize, number: usize, seed: u64) -> Picture {
    let class = class % QUICKSTART_CLASSES.len();
    scene::paint(class, &mut Rng::at(seed, Purpose::Picture, 0, (class * QUICKSTART_PER_CLASS + number) as u64))
}

fn encode(picture: &Picture, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .write_image(&picture.rgb, picture.width as u32, picture.height as u32, ExtendedColorType::Rgb8)
        .map_err(|e| Error::new(ErrorKind::Image, "a drawn picture cannot be encoded").on("quickstart").caused_by(e))?;
    Ok(bytes)
}

/// Writes by way of a temporary name, so that two processes that draw the same set never see half a file. Unlike
/// [`fs::write_atomic`] it doesn't wait for the disk: 1,200 syncs would take longer than drawing, and the marker's is enough.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let tmp = path.with_extension(format!("jpg.tmp.{}", std::process::id()));
    let written = std::fs::write(&tmp, bytes).and_then(|()| std::fs::rename(&tmp, path));
    if written.is_err() {
        // The write's own error is what the user needs.
        let _ = std::fs::remove_file(&tmp);
    }
    written.map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_depend_on_the_seed_alone() {
        let a = quickstart_picture(2, 5, 42);
        assert_eq!(a, quickstart_picture(2, 5, 42));
        assert_ne!(a.rgb, quickstart_picture(2, 5, 43).rgb);
        assert!(a.width >= 160 && a.width <= 420 && a.height >= 160 && a.height <= 420);
    }

    #[test]
    fn encoded_pictures_are_whole() {
        let picture = quickstart_picture(0, 0, 1);
        let back = crate::vision::decode(&encode(&picture, 90).unwrap(), &Default::default()).unwrap();
        assert_eq!((back.width, back.height), (picture.width, picture.height));
    }
}

//! fastai's data sets by name, and the one call that gets one: [`untar_data`].
//!
//! ```no_run
//! use onecycle::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let path = untar_data(URLs::PETS)?; // 812 MB, once
//! let pictures = get_image_files(&path.join("images"))?;
//! # let _ = pictures; Ok(())
//! # }
//! ```
//!
//! As in fastai, the archive goes to `archive/` and its contents to `data/NAME` under one home, the archive stays, and a folder that
//! is there is taken as it is, without a look inside or at the network. The home is another one ([`fetch::home`]); whoever has
//! fastai's sets already lets `ONECYCLE_HOME` name its `~/.fastai`. Different from fastai: a download goes on where it stopped,
//! a file that isn't the expected one never gets its name, and an archive with links or names that lead elsewhere is refused.
//!
//! Sizes and digests are those of fastai's `data/checks.txt` (github.com/fastai/fastai, commit 29be53d): the number of bytes, and the MD5
//! of the first 2^20. Where the list has none for today's address, none is checked.

use crate::fetch::{self, Checks, Download, Patience, Unpack, Watch};
use crate::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A data set on a server: an archive's address, and what is known of the archive.
///
/// Made from a URL's text, or one of [`URLs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    name: &'static str,
    url: Cow<'static, str>,
    checks: Checks,
}

impl Remote {
    const fn known(name: &'static str, url: &'static str, checks: Checks) -> Remote {
        Remote { name, url: Cow::Borrowed(url), checks }
    }

    /// What fastai calls it, such as `PETS`; empty for a URL of one's own.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The archive's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The archive's size in bytes, where it is known.
    pub fn size(&self) -> Option<u64> {
        self.checks.bytes()
    }

    /// The name of the folder that it becomes.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when the URL doesn't end with the name of a tar archive.
    pub fn folder(&self) -> Result<&str> {
        self.names().map(|(_, folder)| folder)
    }

    /// What the archive must be.
    pub fn checks(self, checks: Checks) -> Remote {
        Remote { checks, ..self }
    }

    /// The archive's file name, and the folder's: the same without `.tgz`, `.tar.gz` or `.tar`.
    fn names(&self) -> Result<(&str, &str)> {
        let wrong = |message: &str| Error::new(ErrorKind::Argument, message).on(&self.url);
        let archive = fetch::of_url(&self.url)
            .ok_or_else(|| wrong("this is not the address of a file").remedy("it looks like https://HOST/NAME.tgz"))?;
        let stem = [".tgz", ".tar.gz", ".tar"].iter().find_map(|end| archive.strip_suffix(end));
        stem.filter(|stem| !stem.trim_matches('.').is_empty()).map(|stem| (archive, stem)).ok_or_else(|| {
            wrong("this is no archive that can be unpacked").remedy("its name ends in .tgz, .tar.gz or .tar")
        })
    }
}

impl From<&str> for Remote {
    fn from(url: &str) -> Remote {
        Remote::from(url.to_owned())
    }
}

impl From<String> for Remote {
    /// A URL that [`URLs`] knows gets its checks.
    fn from(url: String) -> Remote {
        let known = URLs::ALL.iter().find(|remote| remote.url == url).cloned();
        known.unwrap_or(Remote { name: "", url: Cow::Owned(url), checks: Checks::none() })
    }
}

/// The data sets for image classification that fastai names.
#[derive(Clone, Copy, Debug)]
pub struct URLs;

/// A constant for each data set, and the list of all of them.
macro_rules! urls {
    ($($(#[$doc:meta])* $name:ident = $url:literal $(, $size:literal, $md5:literal)?;)*) => {
        impl URLs {
            $($(#[$doc])* pub const $name: Remote =
                Remote::known(stringify!($name), $url, urls!(@checks $($size, $md5)?));)*

            /// All of them.
            pub const ALL: &[Remote] = &[$(URLs::$name),*];

            /// The one of this name, or of its folder's; `imagenette-160`, `IMAGENETTE_160` and `imagenette2-160` are the same.
            pub fn named(name: &str) -> Option<Remote> {
                let same = |other: &str| other.replace('-', "_").eq_ignore_ascii_case(&name.replace('-', "_"));
                let folder = |remote: &Remote| remote.folder().is_ok_and(same);
                URLs::ALL.iter().find(|remote| same(remote.name) || folder(remote)).cloned()
            }
        }
    };
    (@checks) => { Checks::none() };
    (@checks $size:literal, $md5:literal) => { Checks::fastai($size, $md5) };
}

urls! {
    /// Oxford-IIIT Pets: 37 breeds of cats and dogs, 7,390 pictures in `images/`; the article's.
    PETS = "https://s3.amazonaws.com/fast-ai-imageclas/oxford-iiit-pet.tgz", 811_706_944, "e4db5c768afd933bb91f5f594d7417a4";
    /// Ten easy classes of ImageNet, in full size.
    IMAGENETTE = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz", 1_557_161_267, "2c774ecb40005b35d7937d50f5d42336";
    /// Imagenette with a shorter side of 160 pixels.
    IMAGENETTE_160 = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz", 99_003_388, "c475f8f7617a200ba35b9facc48443c3";
    /// Imagenette with a shorter side of 320 pixels.
    IMAGENETTE_320 = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz", 341_663_724, "1f1f74f133caff120e575856659b87a2";
    /// Ten classes of ImageNet that are hard to tell apart: breeds of dogs.
    IMAGEWOOF = "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2.tgz", 1_343_715_595, "2cc1c1e36e20cb6fd24ffb978edcb487";
    /// Imagewoof with a shorter side of 160 pixels.
    IMAGEWOOF_160 = "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2-160.tgz", 92_612_825, "3559b194123981a540b87132dbda412f";
    /// Imagewoof with a shorter side of 320 pixels.
    IMAGEWOOF_320 = "https://s3.amazonaws.com/fast-ai-imageclas/imagewoof2-320.tgz", 328_387_740, "7a1fd92672a559a85de76e4810a20c21";
    /// Imagewoof for validation, the twenty classes and unlabelled pictures for training.
    IMAGEWANG = "https://s3.amazonaws.com/fast-ai-imageclas/imagewang.tgz", 2_900_347_689, "2b7776bac0fc95db72ac8a3b091a3e30";
    /// Imagewang with a shorter side of 160 pixels.
    IMAGEWANG_160 = "https://s3.amazonaws.com/fast-ai-imageclas/imagewang-160.tgz", 191_498_213, "dab9b1d97b95574ac64122a19bc74ca1";
    /// Imagewang with a shorter side of 320 pixels.
    IMAGEWANG_320 = "https://s3.amazonaws.com/fast-ai-imageclas/imagewang-320.tgz", 669_826_647, "fff8ac034d60e14fcf7789845e625263";
    /// CIFAR-10: ten classes, 60,000 pictures of 32 x 32.
    CIFAR = "https://s3.amazonaws.com/fast-ai-sample/cifar10.tgz", 168_168_549, "a5f8c31371b63a406b23368042812d3c";
    /// CIFAR-100: a hundred classes, 60,000 pictures of 32 x 32.
    CIFAR_100 = "https://s3.amazonaws.com/fast-ai-imageclas/cifar100.tgz", 169_168_619, "e5e65dcb54b9d3913f7b8a9ad6607e62";
    /// MNIST: 70,000 handwritten digits.
    MNIST = "https://s3.amazonaws.com/fast-ai-imageclas/mnist_png.tgz", 15_683_414, "03639f83c4e3d19e0a3a53a8a997c487";
    /// MNIST's threes and sevens.
    MNIST_SAMPLE = "https://s3.amazonaws.com/fast-ai-sample/mnist_sample.tgz", 3_214_948, "2dbc7ec6f9259b583af0072c55816a88";
    /// A few of MNIST's threes and sevens: the smallest set, for a first try.
    MNIST_TINY = "https://s3.amazonaws.com/fast-ai-sample/mnist_tiny.tgz", 342_207, "56143e8f24db90d925d82a5a74141875";
    /// A few of MNIST's threes and sevens, in different sizes.
    MNIST_VAR_SIZE_TINY = "https://s3.amazonaws.com/fast-ai-imageclas/mnist_var_size_tiny.tgz", 565_372, "b71a930f4eb744a4a143a6c7ff7ed67f";
    /// Oxford Flowers: 102 classes; labels are in text files.
    FLOWERS = "https://s3.amazonaws.com/fast-ai-imageclas/oxford-102-flowers.tgz", 345_236_087, "5666e01c1311b4c67fcf20d2b3850a88";
    /// Food-101: 101 dishes, 101,000 pictures.
    FOOD = "https://s3.amazonaws.com/fast-ai-imageclas/food-101.tgz", 5_686_607_260, "1a540ebf1fb40b2bf3f2294234ba7907";
    /// Stanford Cars: 196 models.
    CARS = "https://s3.amazonaws.com/fast-ai-imageclas/stanford-cars.tgz", 1_957_803_273, "9045d6673c9ced0889f41816f6bf2f9f";
    /// Caltech-UCSD Birds: 200 species.
    CUB_200_2011 = "https://s3.amazonaws.com/fast-ai-imageclas/CUB_200_2011.tgz", 1_150_585_339, "d2acaa99439dff0483c7bbac1bfe2a92";
    /// Caltech-101: 101 kinds of objects.
    CALTECH_101 = "https://s3.amazonaws.com/fast-ai-imageclas/caltech_101.tgz", 131_740_031, "d673425306e98ee4619fcdeef8a0e876";
    /// Dogs against cats.
    DOGS = "https://s3.amazonaws.com/fast-ai-sample/dogscats.tgz", 839_285_364, "3e483c8d6ef2175e9d395a6027eb92b7";
    /// Satellite pictures of the Amazon with several labels each, a part of them, and `labels.csv`.
    PLANET_SAMPLE = "https://s3.amazonaws.com/fast-ai-sample/planet_sample.tgz", 15_523_994, "8bfb174b3162f07fbde09b54555bdb00";
    /// A smaller part of them.
    PLANET_TINY = "https://s3.amazonaws.com/fast-ai-sample/planet_tiny.tgz", 997_569, "490873c5683454d4b2611fb1f00a68a9";
}

/// Downloads and unpacks a data set, unless that has been done before, and returns its folder: one of [`URLs`], or a URL's text.
///
/// Nothing is printed; [`UntarData`] has the settings, and a place for whoever wants to watch.
///
/// # Errors
/// Those of [`UntarData::run`].
pub fn untar_data(from: impl Into<Remote>) -> Result<PathBuf> {
    UntarData::new(from).run(&mut fetch::unwatched)
}

/// [`untar_data`] with settings.
///
/// ```no_run
/// use onecycle::data::{URLs, UntarData};
/// use std::ops::ControlFlow;
///
/// # fn main() -> onecycle::Result<()> {
/// let path = UntarData::new(URLs::MNIST_TINY).home("/data/onecycle").run(&mut |step| {
///     eprintln!("{step:?}");
///     ControlFlow::Continue(())
/// })?;
/// # let _ = path; Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct UntarData {
    from: Remote,
    home: Option<PathBuf>,
    force: bool,
    offline: Option<bool>,
    patience: Patience,
    unpack: Unpack,
}

impl UntarData {
    /// The usual settings.
    pub fn new(from: impl Into<Remote>) -> UntarData {
        let (patience, unpack) = (Patience::default(), Unpack::new());
        UntarData { from: from.into(), home: None, force: false, offline: None, patience, unpack }
    }

    /// The folder with `archive/` and `data/` [default: [`fetch::home`]].
    pub fn home(self, home: impl Into<PathBuf>) -> UntarData {
        UntarData { home: Some(home.into()), ..self }
    }

    /// Whether to download and unpack even if that has been done. What is there stays until the new folder is complete.
    pub fn force_download(self, force: bool) -> UntarData {
        UntarData { force, ..self }
    }

    /// Whether the network must not be used, whatever the environment says.
    pub fn offline(self, offline: bool) -> UntarData {
        UntarData { offline: Some(offline), ..self }
    }

    /// How long to try.
    pub fn patience(self, patience: Patience) -> UntarData {
        UntarData { patience, ..self }
    }

    /// The bounds of what is unpacked.
    pub fn unpack(self, unpack: Unpack) -> UntarData {
        UntarData { unpack, ..self }
    }

    /// Does it, and returns the folder's absolute path.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] when the archive can't be had, [`ErrorKind::Archive`] when it is refused, [`ErrorKind::Argument`]
    /// for what is no address of an archive, [`ErrorKind::Io`] and [`ErrorKind::StorageFull`] naming the file, and
    /// [`ErrorKind::Interrupted`] when `watch` says so.
    pub fn run(&self, watch: &mut Watch) -> Result<PathBuf> {
        let (archive, folder) = self.from.names()?;
        let home = match &self.home {
            Some(home) => std::path::absolute(home).map_err(|e| Error::io("find the folder", home, e))?,
            None => fetch::home()?,
        };
        let (archive, folder) = (home.join("archive").join(archive), home.join("data").join(folder));
        if folder.is_dir() && !self.force {
            return Ok(folder);
        }
        self.download(&archive).run(watch)?;
        self.unpack.clone().lone_folder(true).replace(self.force).run(&archive, &folder, watch)?;
        Ok(folder)
    }

    fn download(&self, to: &Path) -> Download {
        let download = Download::new(self.from.url(), to)
            .checks(self.from.checks.clone())
            .patience(self.patience.clone())
            .force(self.force);
        match self.offline {
            Some(offline) => download.offline(offline),
            None => download,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_in_order() {
        let names: BTreeSet<&str> = URLs::ALL.iter().map(Remote::name).collect();
        assert_eq!(names.len(), URLs::ALL.len(), "a name twice");
        let folders: BTreeSet<&str> = URLs::ALL.iter().map(|remote| remote.folder().unwrap()).collect();
        assert_eq!(folders.len(), names.len(), "two data sets in one folder");
        for remote in URLs::ALL {
            assert!(remote.url().starts_with("https://s3.amazonaws.com/fast-ai-"), "{}", remote.url());
            // An empty file has another size, and a digest that isn't one would be told first.
            let empty = tempfile::NamedTempFile::new().unwrap();
            assert_eq!(remote.checks.verify(empty.path()).unwrap_err().kind(), ErrorKind::Network, "{}", remote.name());
        }
        assert_eq!(Remote::from(URLs::PETS.url()), URLs::PETS, "a known URL has its checks");
        for name in ["IMAGENETTE_160", "imagenette-160", "imagenette2-160"] {
            assert_eq!(URLs::named(name), Some(URLs::IMAGENETTE_160));
        }
        assert_eq!(URLs::named("imagenet"), None);
        assert_eq!(URLs::PETS.names().unwrap(), ("oxford-iiit-pet.tgz", "oxford-iiit-pet"));
    }

    #[test]
    fn what_is_no_archive_is_told_before_anything_happens() {
        for (url, names) in [("http://h/a.tar.gz?x", ("a.tar.gz", "a")), ("http://h/b.c.tar", ("b.c.tar", "b.c"))] {
            assert_eq!(Remote::from(url).names().unwrap(), names);
        }
        for wrong in ["pets", "https://h/", "https://h/a.zip", "https://h/.tgz", "https://h/..tgz", "https://h/a:b.tgz"]
        {
            let error = UntarData::new(wrong).home("/nowhere").run(&mut fetch::unwatched).unwrap_err();
            assert_eq!((error.kind(), error.item()), (ErrorKind::Argument, Some(wrong)));
        }
    }
}

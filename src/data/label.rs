//! From an item to its label, and from an item to its picture.
//!
//! A [`Getter`] turns an item into a [`Value`]. Most items are paths and most values class names, so most getters are
//! [`Labeller`]s, which turn a path into a text. Three come with the crate: [`RegexLabeller`] (the article's: the class is part
//! of the file name), [`parent_label`] (the class is the folder), and any closure. [`using_attr`] applies a labeller to a part
//! of the path instead of the whole.
//!
//! Rows of a table are read by [`ColReader`](super::ColReader) and its neighbours. Any other function, from an [`Item`] to
//! whatever is a [`Value`] (several labels, numbers, a path), is wrapped by [`getter`](super::getter()).
//!
//! ```
//! # fn main() -> onecycle::Result<()> {
//! use onecycle::data::{Labeller, RegexLabeller, parent_label, using_attr};
//! use std::path::Path;
//! let path = Path::new("images/great_pyrenees_105.jpg");
//! let by_name = using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$")?, "name");
//! assert_eq!(by_name.label(path)?, "great_pyrenees");
//! assert_eq!(parent_label.label(path)?, "images");
//! # Ok(())
//! # }
//! ```

use super::item::{Item, Value};
use super::python;
use crate::{Error, ErrorKind, Result};
use regex::Regex;
use std::path::{MAIN_SEPARATOR, Path};
use std::sync::Arc;

/// Turns an item into a value: where its picture is, or what its label is.
pub trait Getter: Send + Sync {
    /// The name under which `DataBlock::summary` shows it.
    fn name(&self) -> String;

    /// The value of `item`.
    ///
    /// # Errors
    /// The item has none; the error names the item.
    fn get(&self, item: &Item) -> Result<Value>;
}

/// A labeller reads items that are paths.
impl<L: Labeller> Getter for L {
    fn name(&self) -> String {
        Labeller::name(self)
    }

    fn get(&self, item: &Item) -> Result<Value> {
        Ok(self.label(item.path()?)?.into())
    }
}

/// One getter, or several: what `DataBlock::get_x` and `DataBlock::get_y` take. There must be one for each block.
pub trait IntoGetters {
    /// The getters in the order of their blocks.
    fn into_getters(self) -> Vec<Arc<dyn Getter>>;
}

impl<G: Getter + 'static> IntoGetters for G {
    fn into_getters(self) -> Vec<Arc<dyn Getter>> {
        vec![Arc::new(self)]
    }
}

impl IntoGetters for Vec<Arc<dyn Getter>> {
    fn into_getters(self) -> Vec<Arc<dyn Getter>> {
        self
    }
}

impl<A: Getter + 'static, B: Getter + 'static> IntoGetters for (A, B) {
    fn into_getters(self) -> Vec<Arc<dyn Getter>> {
        vec![Arc::new(self.0), Arc::new(self.1)]
    }
}

impl<A: Getter + 'static, B: Getter + 'static, C: Getter + 'static> IntoGetters for (A, B, C) {
    fn into_getters(self) -> Vec<Arc<dyn Getter>> {
        vec![Arc::new(self.0), Arc::new(self.1), Arc::new(self.2)]
    }
}

/// Turns an item's path into its label.
pub trait Labeller: Send + Sync {
    /// The name under which `DataBlock::summary` shows it.
    fn name(&self) -> String;

    /// The label of the item at `path`.
    ///
    /// # Errors
    /// [`ErrorKind::Label`] naming the path when it has no label.
    fn label(&self, path: &Path) -> Result<String>;
}

/// Functions and closures are labellers; a function shows under its name, a closure as `<lambda>`.
impl<F: Fn(&Path) -> Result<String> + Send + Sync> Labeller for F {
    fn name(&self) -> String {
        function_name::<F>()
    }

    fn label(&self, path: &Path) -> Result<String> {
        self(path)
    }
}

/// As Python's `__qualname__`, by which fastai shows a function.
pub(super) fn function_name<F>() -> String {
    let name = std::any::type_name::<F>().rsplit("::").next().unwrap_or_default();
    if name.starts_with('{') { "<lambda>".into() } else { name.into() }
}

/// The name of the folder that holds the item. fastai: `parent_label`.
///
/// # Errors
/// [`ErrorKind::Label`] when the path has no parent.
pub fn parent_label(path: &Path) -> Result<String> {
    path.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).ok_or_else(|| {
        Error::new(ErrorKind::Label, "the path has no parent folder to take the label from")
            .on(path.display())
            .remedy("keep each class in a folder of its own, or label by file name with RegexLabeller")
    })
}

/// The first group of a regular expression. fastai: `RegexLabeller`.
///
/// The expression is searched anywhere in the path (written with `/` on every system). In the article's
/// `(.+)_\d+.jpg$` the dot before `jpg` matches any character and `.+` takes as much as it can, so that
/// `great_pyrenees_105.jpg` gives `great_pyrenees`.
#[derive(Clone, Debug)]
pub struct RegexLabeller {
    pattern: String,
    regex: Regex,
}

impl RegexLabeller {
    /// Compiles `pattern`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] when it is no regular expression (look-around is not supported) or has no group.
    pub fn new(pattern: &str) -> Result<RegexLabeller> {
        let regex = Regex::new(pattern).map_err(|e| {
            Error::new(ErrorKind::Argument, "the regular expression cannot be compiled")
                .on(pattern)
                .remedy("see the syntax of the regex crate; look-around and back references do not exist there")
                .caused_by(e)
        })?;
        if regex.captures_len() < 2 {
            return Err(Error::new(ErrorKind::Argument, "the regular expression has no group to take the label from")
                .on(pattern)
                .remedy(r"put the class in parentheses, as in (.+)_\d+.jpg$"));
        }
        Ok(RegexLabeller { pattern: pattern.into(), regex })
    }

    /// Lets the expression match at the start of the text only, as fastai's `match=True`.
    pub fn matching(mut self) -> RegexLabeller {
        // The pattern compiled once, and a group around it adds neither syntax nor capture numbers.
        if let Ok(anchored) = Regex::new(&format!(r"\A(?:{})", self.pattern)) {
            self.regex = anchored;
        }
        self
    }
}

impl Labeller for RegexLabeller {
    fn name(&self) -> String {
        "RegexLabeller".into()
    }

    fn label(&self, path: &Path) -> Result<String> {
        let text = path.to_string_lossy().replace(MAIN_SEPARATOR, "/");
        match self.regex.captures(&text).and_then(|c| c.get(1)) {
            Some(group) => Ok(group.as_str().into()),
            None => Err(Error::new(
                ErrorKind::Label,
                format!("Failed to find \"re.compile({})\" in \"{text}\"", python::repr(&self.pattern)),
            )
            .on(path.display())
            .remedy("change the expression so that its first group holds the class, or move the file away")),
        }
    }
}

/// A labeller that sees a part of the path; see [`using_attr`].
#[derive(Clone, Debug)]
pub struct UsingAttr<L> {
    labeller: L,
    attribute: String,
}

/// Applies `labeller` to an attribute of the path: `name` (the last component), `stem` (without extension), `suffix`
/// (the extension with its dot) or `parent`. fastai: `using_attr`.
pub fn using_attr<L: Labeller>(labeller: L, attribute: &str) -> UsingAttr<L> {
    UsingAttr { labeller, attribute: attribute.into() }
}

impl<L: Labeller> Labeller for UsingAttr<L> {
    fn name(&self) -> String {
        "partial".into()
    }

    fn label(&self, path: &Path) -> Result<String> {
        let part = path_attribute(path, &self.attribute)?;
        // The reader looks for the file, not for the part of its name that the inner labeller saw.
        self.labeller.label(Path::new(&part)).map_err(|e| e.rather_on(path.display()))
    }
}

/// A part of a path by the name that Python's `pathlib` gives it.
pub(super) fn path_attribute(path: &Path, attribute: &str) -> Result<std::ffi::OsString> {
    Ok(match attribute {
        "name" => path.file_name().unwrap_or_default().to_owned(),
        "stem" => path.file_stem().unwrap_or_default().to_owned(),
        "suffix" => path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default().into(),
        "parent" => path.parent().unwrap_or(Path::new("")).as_os_str().to_owned(),
        other => {
            return Err(Error::new(ErrorKind::Argument, format!("a path has no attribute {other:?}"))
                .remedy("use name, stem, suffix or parent"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_the_summary_prints_them() {
        let regex = RegexLabeller::new("(a)").unwrap();
        assert_eq!(Getter::name(&regex), "RegexLabeller");
        assert_eq!(Getter::name(&using_attr(regex, "name")), "partial");
        assert_eq!(Getter::name(&parent_label), "parent_label");
        assert_eq!(Getter::name(&|_: &Path| -> Result<String> { Ok("x".into()) }), "<lambda>");
        assert_eq!(super::super::getter(|_: &Item| Ok(1.5)).name(), "<lambda>");
    }

    #[test]
    fn a_path_without_label_is_named_whole() {
        let labeller = using_attr(RegexLabeller::new(r"(.+)_\d+.jpg$").unwrap(), "name");
        let e = labeller.label(Path::new("pets/x.png")).unwrap_err();
        assert_eq!(e.item(), Some("pets/x.png"));
        assert_eq!(e.message(), r#"Failed to find "re.compile('(.+)_\\d+.jpg$')" in "x.png""#);
        assert!(e.to_string().ends_with(')'), "a remedy: {e}");
    }

    #[test]
    fn attributes_and_anchors() {
        let dog = Path::new("a/b/dog_1.png");
        for (attribute, part) in [("name", "dog_1.png"), ("stem", "dog_1"), ("suffix", ".png"), ("parent", "a/b")] {
            let whole = using_attr(RegexLabeller::new("(?s)(.*)").unwrap(), attribute);
            assert_eq!(whole.label(dog).unwrap(), part);
        }
        assert!(using_attr(parent_label, "colour").label(dog).is_err());
        assert!(RegexLabeller::new("b/(.*)").unwrap().label(dog).is_ok());
        assert!(RegexLabeller::new("b/(.*)").unwrap().matching().label(dog).is_err());
        assert!(RegexLabeller::new("(").is_err());
        assert!(RegexLabeller::new("abc").is_err());
    }
}

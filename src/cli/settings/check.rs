//! Checks in a user's words: which flag, what is wrong with its value, what would be right.

use super::{DataSettings, LrSlice};
use crate::cli::flags::{LabelRule, WeightSet};
use crate::data::{Remote, URLs};
use crate::{Error, ErrorKind, Result};
use std::fmt::Display;
use std::path::Path;

/// A value of `flag` that cannot be used.
pub(super) fn wrong(flag: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Argument, message).on(flag)
}

/// The checks of one flag's number.
pub(super) struct Check(pub(super) &'static str);

impl Check {
    /// `low..=high`.
    pub(super) fn within<T: PartialOrd + Display>(self, value: T, low: T, high: T) -> Result<()> {
        let fits = value >= low && value <= high;
        fits.then_some(()).ok_or_else(|| self.not(&value, format!("from {low} to {high}")))
    }

    /// More than `low`, at most `high`.
    pub(super) fn above(self, value: f64, low: f64, high: f64) -> Result<()> {
        let fits = value > low && value <= high;
        fits.then_some(()).ok_or_else(|| self.not(&value, format!("more than {low} and at most {high}")))
    }

    /// More than `low`, less than `high`.
    pub(super) fn between(self, value: f64, low: f64, high: f64) -> Result<()> {
        let fits = value > low && value < high;
        fits.then_some(()).ok_or_else(|| self.not(&value, format!("more than {low} and less than {high}")))
    }

    fn not(self, value: &impl Display, range: String) -> Error {
        wrong(self.0, format!("{value} is out of range")).remedy(format!("it takes a number {range}"))
    }
}

pub(super) fn architecture(name: &str) -> Result<()> {
    let named = |e: Error| wrong("--arch", format!("there is no architecture called `{name}`")).remedy(e.advice());
    crate::nn::Arch::by_name(name).map(drop).map_err(named)
}

/// One of fastai's, or a URL.
pub(super) fn data_set(name: &str) -> Result<Remote> {
    if name.contains("://") {
        let remote = Remote::from(name);
        return remote.folder().map(drop).map(|()| remote.clone());
    }
    URLs::named(name).ok_or_else(|| {
        let names: Vec<String> = URLs::ALL.iter().map(|remote| remote.name().to_owned()).collect();
        let remedy = match nearest(&name.to_uppercase().replace('-', "_"), &names) {
            Some(near) => format!("did you mean `{near}`? --list shows all"),
            None => format!("it takes a URL, or one of {}", names.join(", ")),
        };
        Error::new(ErrorKind::Argument, "there is no data set of this name").on(name).remedy(remedy)
    })
}

/// The one of `names` that was meant: at most two letters away.
pub(super) fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let (near, letters) = names.iter().map(|n| (n, distance(n, name))).min_by_key(|(_, letters)| *letters)?;
    (letters <= 2).then_some(near)
}

/// Levenshtein's distance: letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(super) fn label(rule: LabelRule, expression: Option<&str>) -> Result<()> {
    match (rule, expression) {
        (LabelRule::Parent, None) => Ok(()),
        (LabelRule::Parent, Some(_)) => {
            Err(wrong("--label-re", "an expression needs the rule `re`").remedy("leave out --label, or say --label re"))
        }
        (LabelRule::Re, None) => {
            let error = wrong("--label", "the rule `re` needs an expression");
            Err(error.remedy("add one, such as --label-re '(.+)_\\d+.jpg$'"))
        }
        (LabelRule::Re, Some(expression)) => {
            let compiled = regex::Regex::new(expression).map_err(|e| {
                // regex explains over several lines, the last of which says what is wrong.
                let text = e.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
                wrong("--label-re", format!("`{expression}` is not a regular expression: {reason}")).caused_by(e)
            })?;
            let groups = compiled.captures_len() > 1;
            groups.then_some(()).ok_or_else(|| {
                wrong("--label-re", format!("`{expression}` has no group"))
                    .remedy("put the label in parentheses: '(.+)_\\d+.jpg$'")
            })
        }
    }
}

pub(super) fn folders(train: Option<&str>, valid: Option<&str>) -> Result<()> {
    match (train, valid) {
        (Some(train), Some(valid)) if train == valid => {
            Err(wrong("--valid", format!("`{valid}` is the training folder too")).remedy("name two different folders"))
        }
        (Some(_), None) => {
            Err(wrong("--train", "a training folder alone says nothing about validation").remedy("add --valid NAME"))
        }
        (None, Some(_)) => {
            Err(wrong("--valid", "a validation folder alone says nothing about training").remedy("add --train NAME"))
        }
        _ => Ok(()),
    }
}

/// What is about a table needs one, and what is about folders doesn't go with it.
pub(super) fn table(data: &DataSettings) -> Result<()> {
    let of_table = [("--x", &data.x), ("--y", &data.y), ("--suff", &data.suff), ("--valid-col", &data.valid_col)];
    let needless = of_table.into_iter().find(|(_, value)| value.is_some());
    match (&data.csv, needless) {
        (None, Some((flag, _))) => Err(wrong(flag, "it is about a table").remedy("add --csv FILE, or leave it out")),
        (Some(_), _) if data.label_re.is_some() || data.train.is_some() || data.classes.is_some() => {
            let error = wrong("--csv", "labels, classes and folders of a split are the table's business");
            Err(error.remedy("leave out --label-re, --train, --valid and --classes; --valid-col names a column"))
        }
        _ => Ok(()),
    }
}

/// What goes with pretrained weights, and what doesn't.
pub(super) fn pretrained(from: Option<&str>, weights: Option<WeightSet>) -> Result<()> {
    match from {
        Some("") => {
            Err(wrong("--pretrained", "it is empty").remedy("it takes auto, a file, a URL or hf-hub:OWNER/NAME"))
        }
        Some(from) if weights.is_some() && !matches!(from, "auto" | "default") => {
            Err(wrong("--weights", format!("it chooses between torchvision's weights, and `{from}` is none of them"))
                .remedy("leave one of the two out"))
        }
        _ => Ok(()),
    }
}

/// What goes with pretrained weights only, and what doesn't.
pub(super) fn frozen(pretrained: bool, freeze_epochs: Option<usize>, lr_slice: Option<&str>) -> Result<()> {
    if !pretrained && freeze_epochs.is_some() {
        let error = wrong("--freeze-epochs", "fresh weights are not frozen");
        return Err(error.remedy("add --pretrained auto, or leave it out"));
    }
    if pretrained && lr_slice.is_some() {
        let error = wrong("--lr-slice", "with pretrained weights the layers' rates follow --lr");
        return Err(error.remedy("use --lr: the first layers get a hundredth of the last ones' rate"));
    }
    Ok(())
}

pub(super) fn lr_slice(text: &str) -> Result<LrSlice> {
    let malformed = || wrong("--lr-slice", format!("`{text}` is not a range")).remedy("write it as 1e-6..1e-4");
    let (low, high) = text.split_once("..").ok_or_else(malformed)?;
    let rate = |part: &str| part.trim().parse::<f64>().map_err(|_| malformed());
    let (low, high) = (rate(low)?, rate(high)?);
    Check("--lr-slice").above(low, 0.0, 100.0)?;
    Check("--lr-slice").above(high, 0.0, 100.0)?;
    if low > high {
        let error = wrong("--lr-slice", format!("`{text}` falls"));
        return Err(error.remedy("the lower rate, for the first layers, comes first: 1e-6..1e-4"));
    }
    Ok(LrSlice { low, high })
}

pub(super) fn figure_file(flag: &str, path: &Path) -> Result<()> {
    one_of(flag, path, ["png", "svg"])
}

pub(super) fn model_file(flag: &str, path: &Path) -> Result<()> {
    one_of(flag, path, ["safetensors", "onnx"])
}

fn one_of(flag: &str, path: &Path, extensions: [&str; 2]) -> Result<()> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    extensions.contains(&extension.as_str()).then_some(()).ok_or_else(|| {
        let [a, b] = extensions;
        wrong(flag, format!("`{}` ends neither in .{a} nor in .{b}", path.display()))
            .remedy("choose one of these extensions")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("epochs", "epoch"), 1);
        assert_eq!(distance("lr", "wd"), 2);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn a_data_set_has_a_name_or_a_url() {
        assert_eq!(data_set("pets").unwrap(), URLs::PETS);
        assert_eq!(data_set("https://h/a.tgz").unwrap().folder().unwrap(), "a");
        let told = |name: &str| data_set(name).unwrap_err().to_string();
        assert!(told("flowres").contains("did you mean `FLOWERS`?"), "{}", told("flowres"));
        assert!(told("something").contains("one of PETS, IMAGENETTE,"));
        assert!(told("https://h/a.zip").contains(".tgz"));
    }
}

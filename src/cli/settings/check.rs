//! Checks in a user's words: which flag, what is wrong with its value, what would be right.

use super::LrSlice;
use crate::cli::flags::LabelRule;
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
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let known = ["png", "svg"].contains(&extension.as_str());
    known.then_some(()).ok_or_else(|| {
        wrong(flag, format!("`{}` ends neither in .png nor in .svg", path.display()))
            .remedy("choose one of these extensions")
    })
}

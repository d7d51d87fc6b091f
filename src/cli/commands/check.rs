//! `onecycle check`: the faults of a folder of pictures before training; `--json` for scripts, status 1 if a file is bad.

use crate::cli::output::Verbosity;
use crate::cli::settings::CheckSettings;
use crate::cli::{Context, data};
use crate::fs::{size, write_atomic};
use crate::learner::{Progress, colour};
use crate::vision::Check;
use crate::vision::check::{ClassCount, Finding, Report, Severity};
use crate::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Files that a finding names; `-v` names all.
const SHOWN: usize = 3;

/// Files from which progress is worth a line.
const MANY: usize = 500;

/// Classes from which only the smallest and the largest are listed.
const FEW_CLASSES: usize = 12;

/// Runs the command.
///
/// # Errors
/// There are no pictures, or at least one file is bad; the report has been printed then. Or the list of bad files can't be written.
pub fn run(settings: &CheckSettings, context: &Context) -> Result<()> {
    let (wanted, quiet) = (&settings.data, context.console.verbosity() == Verbosity::Quiet);
    let (progress, interrupt) = (Mutex::new(Progress::new(quiet)), context.interrupt.clone());
    let check = match &wanted.csv {
        Some(_) => Check::datasets(&data::datasets(wanted, &settings.dir, settings.common.seeds[0])?),
        None => Check::folder(&settings.dir),
    };
    let check = check
        .options(data::decode_options(wanted))
        .bs(wanted.bs)
        .threads(settings.common.threads.or(wanted.workers).unwrap_or(0))
        .progress(move |done, of| {
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            if done == 1 && of >= MANY {
                progress.begin("checked", of);
            }
            if of >= MANY {
                progress.batch(done, None);
            }
            if done == of {
                progress.finish();
            }
            !interrupt.is_set()
        });
    let check = match &wanted.csv {
        Some(_) => check, // the table has said it
        None => {
            let labeller = data::labeller(wanted.label_re.as_deref())?;
            check.label(move |path: &Path| labeller.label(path)).splitter(data::splitter(wanted))
        }
    };
    let report = check.run()?;
    match settings.json {
        true => context.console.result(&format!("{:#}", serde_json::json!(report)))?,
        false => context.console.result(text(&report, &settings.dir, context).trim_end())?,
    }
    if let Some(list) = &settings.quarantine {
        quarantine(&report, list)?;
        context.console.note(&format!("the list of bad files is in {}; none was moved", list.display()));
    }
    match report.bad.len() {
        0 => Ok(()),
        n => Err(Error::new(ErrorKind::Data, format!("{n} of {} files would stop a training", report.images))
            .on(settings.dir.display())
            .remedy("the report says which and why; --quarantine FILE writes a list, --skip-bad trains without them")),
    }
}

/// The paths of the bad files, one a line, byte for byte.
fn quarantine(report: &Report, list: &Path) -> Result<()> {
    write_atomic(list, |out| {
        for bad in &report.bad {
            out.write_all(bad.file.as_os_str().as_encoded_bytes())?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

fn text(report: &Report, dir: &Path, context: &Context) -> String {
    let mut out = summary(report);
    for (severity, heading, code) in [
        (Severity::Bad, "bad: training stops at this", "1;31"),
        (Severity::Warning, "warnings", "1;33"),
        (Severity::Note, "notes", "1"),
    ] {
        let all: Vec<&Finding> = report.of(severity).collect();
        if all.is_empty() {
            continue;
        }
        out += "\n";
        out += &if colour(&std::io::stdout()) {
            format!("\x1b[{code}m{heading}\x1b[0m\n")
        } else {
            format!("{heading}\n")
        };
        let shown = if context.console.verbosity() == Verbosity::Verbose { usize::MAX } else { SHOWN };
        all.iter().for_each(|f| out += &finding(f, dir, shown));
    }
    if report.findings.is_empty() {
        out += "\nnothing to complain about\n";
    }
    out
}

/// What there is, in a few lines.
fn summary(report: &Report) -> String {
    let mut out = format!("{} pictures, {}", report.images, size(report.bytes));
    let list = |all: &mut dyn Iterator<Item = (&str, usize)>| {
        let mut all: Vec<(&str, usize)> = all.filter(|(_, n)| *n > 0).collect();
        all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        all.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
    };
    if let Some((train, valid)) = report.split {
        out += &format!(", {train} to train on and {valid} to validate");
    }
    out += "\n";
    let mut row = |name: &str, value: String| out += &format!("  {name:13}{value}\n");
    if let Some(shapes) = &report.shapes {
        let shown = |(w, h): (usize, usize)| format!("{w}x{h}");
        let (least, middle, most) = (shown(shapes.smallest), shown(shapes.median), shown(shapes.largest));
        row("sizes", format!("{least} to {most}, median {middle}"));
        let in_order = |all: &[(&str, usize)]| {
            let some = all.iter().filter(|(_, n)| *n > 0);
            some.map(|(name, n)| format!("{name}: {n}")).collect::<Vec<_>>().join(", ")
        };
        row("shorter side", in_order(&shapes.short_sides));
        row("aspect", in_order(&shapes.aspects));
        row("formats", list(&mut report.formats.iter().map(|(name, n)| (*name, *n))));
        row("colours", list(&mut report.colours.iter().map(|(name, n)| (name.as_str(), *n))));
    }
    if !report.classes.is_empty() {
        row("classes", classes(report));
    }
    out
}

/// All classes with their counts; of many the smallest and the largest.
fn classes(report: &Report) -> String {
    let mut all: Vec<(&String, &ClassCount)> = report.classes.iter().collect();
    all.sort_by_key(|(name, count)| (count.images, *name));
    let list = |some: &[(&String, &ClassCount)]| {
        some.iter().map(|(name, count)| format!("{name} {}", count.images)).collect::<Vec<_>>().join(", ")
    };
    match all.len() {
        n if n <= FEW_CLASSES => format!("{n}: {}", list(&all)),
        n => format!("{n}: {} .. {}", list(&all[..3]), list(&all[n - 3..])),
    }
}

/// The sentence, the first files, what to do.
fn finding(finding: &Finding, dir: &Path, shown: usize) -> String {
    let mut out = format!("  {}\n", finding.message);
    let prefix = dir.join("").display().to_string();
    for noted in finding.files.iter().take(shown) {
        let file = noted.file.strip_prefix(dir).unwrap_or(&noted.file).display();
        let detail = noted.detail.replace(&prefix, "");
        out += &if detail.is_empty() { format!("    {file}\n") } else { format!("    {file}: {detail}\n") };
    }
    if finding.files.len() > shown {
        out += &format!("    and {} more; -v names all\n", finding.files.len() - shown);
    }
    out + &format!("    > {}\n", finding.advice)
}

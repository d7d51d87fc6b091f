//! One file, from a URL to a path, through interruptions.
//!
//! A flaky line gets patience as long as it brings something: attempts are counted anew after each MiB, and each wait is twice the
//! last. What has come is kept over attempts, over runs and over a `kill`; see [`part`](super::part). A file that is complete and wrong
//! is removed, because going on with it would never end well.

use super::lock::Lock;
use super::part::Part;
use super::request::{self, Failure};
use super::{Checks, OFFLINE, Step, Watch, bytes, is_offline, tell};
use crate::{Error, ErrorKind, Result, fs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes that make up for the failures before.
const PROGRESS: u64 = 1 << 20;

/// How long a download is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Patience {
    /// Attempts after the first; each MiB that comes gives all of them back.
    pub retries: u32,
    /// The wait before the second attempt; each later one is twice as long.
    pub first_wait: Duration,
    /// No wait is longer; a server that asks for more gets an error instead.
    pub longest_wait: Duration,
    /// Silence after which a connection is given up.
    pub stall: Duration,
}

impl Default for Patience {
    /// Five retries, from 1 s to at most 60 s apart; 30 s of silence.
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience { retries: 5, first_wait: seconds(1), longest_wait: seconds(60), stall: seconds(30) }
    }
}

/// A download that is described and not yet begun.
#[derive(Clone, Debug)]
pub struct Download {
    url: String,
    to: PathBuf,
    checks: Checks,
    patience: Patience,
    at_most: u64,
    again: bool,
    offline: Option<bool>,
}

impl Download {
    /// From `url` to `to`, a file's path whose folder is created.
    pub fn new(url: impl Into<String>, to: impl Into<PathBuf>) -> Download {
        Download {
            url: url.into(),
            to: to.into(),
            checks: Checks::none(),
            patience: Patience::default(),
            at_most: 64 << 30,
            again: false,
            offline: None,
        }
    }

    /// What the file must be.
    pub fn checks(self, checks: Checks) -> Download {
        Download { checks, ..self }
    }

    /// How long to try.
    pub fn patience(self, patience: Patience) -> Download {
        Download { patience, ..self }
    }

    /// Bytes that the file may have [default: 64 GiB].
    pub fn at_most(self, at_most: u64) -> Download {
        Download { at_most, ..self }
    }

    /// Whether to fetch the file even if it is there; the old one stays until the new one is whole.
    pub fn force(self, again: bool) -> Download {
        Download { again, ..self }
    }

    /// Whether the network must not be used, whatever the environment says.
    pub fn offline(self, offline: bool) -> Download {
        Download { offline: Some(offline), ..self }
    }

    /// Fetches the file, unless it is there and passes the checks.
    ///
    /// # Errors
    /// [`ErrorKind::Network`] naming the URL: it can't be reached, it refuses, it is offline, or what comes isn't what was
    /// expected. [`ErrorKind::Io`], [`ErrorKind::StorageFull`] naming the file, [`ErrorKind::Argument`] for what is no URL, and
    /// [`ErrorKind::Interrupted`] when `watch` says so.
    pub fn run(&self, watch: &mut Watch) -> Result<()> {
        self.checks.are_checks().map_err(|e| e.on(&self.url))?;
        if !self.again && self.is_there(watch)? {
            return Ok(());
        }
        if let Some(offline) = self.forbidden()? {
            return Err(offline);
        }
        let agent = request::agent(&self.url, self.patience.stall)?;
        if let Some(folder) = self.to.parent() {
            fs::create_dir(folder)?;
        }
        let lock = Lock::take(&self.to, watch)?;
        if lock.waited && self.is_there(watch)? {
            return Ok(());
        }
        let mut part = Part::open(&self.to, &self.url)?;
        let mut left = self.patience.retries;
        let mut wait = self.patience.first_wait;
        let mut mark = part.have();
        while !part.is_complete() {
            let outcome = request::attempt(&agent, &self.url, &mut part, self.checks.bytes(), self.at_most, watch);
            let (error, asked) = match outcome {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(self.by_hand(error)),
                Err(Failure::Wrong(error)) => {
                    part.discard();
                    return Err(error);
                }
                Err(Failure::Misfit(error)) => {
                    part.restart(Default::default())?;
                    mark = 0;
                    (error, Some(Duration::ZERO))
                }
                Err(Failure::Passing(error, asked)) => (error, asked),
            };
            if part.have() >= mark + PROGRESS {
                (left, wait, mark) = (self.patience.retries, self.patience.first_wait, part.have());
            }
            if left == 0 {
                return Err(self.given_up(error, &part));
            }
            left -= 1;
            let pause = asked.map_or(wait, |asked| if asked.is_zero() { asked } else { asked.max(wait) });
            if pause > self.patience.longest_wait.max(wait) {
                let error =
                    Error::new(ErrorKind::Network, format!("{}, and asks for {} s", error.message(), pause.as_secs()));
                return Err(error.on(&self.url).remedy("try again after that time"));
            }
            rest(&error, left, pause, watch)?;
            wait = (wait * 2).min(self.patience.longest_wait);
        }
        tell(watch, Step::Check)?;
        part.finish(&self.checks, &self.to)
    }

    /// Whether the file is there and is what it should be; one that isn't is as good as none.
    fn is_there(&self, watch: &mut Watch) -> Result<bool> {
        if !self.to.is_file() {
            return Ok(false);
        }
        tell(watch, Step::Check)?;
        match self.checks.verify(&self.to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Network => {
                tell(watch, Step::Outdated)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn forbidden(&self) -> Result<Option<Error>> {
        let by = match self.offline {
            Some(false) => None,
            Some(true) => Some("the caller"),
            None => is_offline()?,
        };
        Ok(by.map(|by| {
            let error = Error::new(ErrorKind::Network, format!("this has to be fetched, and {by} forbids it"));
            let variable = if self.offline.is_some() { OFFLINE } else { by };
            let remedy = format!("unset {variable}, or {}", self.elsewhere());
            error.on(&self.url).remedy(remedy)
        }))
    }

    /// What is always possible.
    fn elsewhere(&self) -> String {
        format!("fetch the file elsewhere and put it at {}", self.to.display())
    }

    /// The advice for a refusal that has none of its own.
    fn by_hand(&self, error: Error) -> Error {
        match error.kind() == ErrorKind::Network && error.advice().is_empty() {
            true => error.remedy(self.elsewhere()),
            false => error,
        }
    }

    fn given_up(&self, error: Error, part: &Part) -> Error {
        let tries = self.patience.retries + 1;
        let message = format!("{} ({tries} attempts)", error.message());
        let by_hand = self.elsewhere();
        let remedy = match part.have() {
            0 => format!("check the network, or the proxy in HTTPS_PROXY, or {by_hand}"),
            n => format!(
                "{} are kept in {}, and the next call goes on from there; or {by_hand}",
                bytes(n),
                name(part.path())
            ),
        };
        Error::new(error.kind(), message).on(&self.url).remedy(remedy).caused_by(error)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Waits, in slices, so that a request to stop is heard.
fn rest(why: &Error, left: u32, wait: Duration, watch: &mut Watch) -> Result<()> {
    let began = Instant::now();
    tell(watch, Step::Retry { reason: why.message().into(), left, wait })?;
    while let Some(more) = wait.checked_sub(began.elapsed()).filter(|more| !more.is_zero()) {
        std::thread::sleep(more.min(Duration::from_millis(50)));
        tell(watch, Step::Wait { left: wait.saturating_sub(began.elapsed()) })?;
    }
    Ok(())
}

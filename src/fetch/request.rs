//! One request: what is asked for, and what each answer means.
//!
//! | answer | what follows |
//! |---|---|
//! | 200 | the whole file, from its first byte, whatever was there |
//! | 206 with the range asked for | the rest |
//! | 206 with another range or version, 416 | what was there is forgotten, and asked for anew |
//! | 408, 425, 429, 500, 502, 503, 504 | a wait, the server's if it names one, and another attempt |
//! | any other | an error |
//! | a connection that breaks, stalls or talks nonsense | another attempt, from where this one stopped |

use super::part::{Origin, Part};
use super::{Step, Watch, bytes, environment, tell};
use crate::{Error, ErrorKind};
use std::io::Read;
use std::time::Duration;
use ureq::http::{HeaderMap, header};
use ureq::{Agent, Body};

/// Why an attempt ended before the file did.
pub(super) enum Failure {
    /// Nothing that a second attempt would change.
    Final(Error),
    /// Another attempt may do better, after the wait that the server asks for.
    Passing(Error, Option<Duration>),
    /// What is there doesn't fit what the server has; the next attempt begins anew.
    Misfit(Error),
    /// The bytes are wrong, and no attempt of this kind gets the right ones: what is there is of no use.
    Wrong(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Final(error)
    }
}

/// A client of HTTP/1.1. `stall` is how long it waits for a connection, an answer, the next byte.
pub(super) fn agent(url: &str, stall: Duration) -> Result<Agent, Error> {
    let secure = url.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("https://"));
    if !secure && !url.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("http://")) {
        let error = Error::new(ErrorKind::Argument, "this is not the address of a file on a server").on(url);
        return Err(error.remedy("it begins with https:// or http://"));
    }
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // Once secure, always secure: a redirection must not take the protection away.
        .https_only(secure)
        .proxy(environment::proxy(url)?)
        .max_redirects(10)
        .user_agent(concat!("onecycle/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall));
    Ok(config.build().new_agent())
}

/// Asks for what `part` lacks and appends it. `size` is what the file must have, `at_most` what it may have.
pub(super) fn attempt(
    agent: &Agent,
    url: &str,
    part: &mut Part,
    size: Option<u64>,
    at_most: u64,
    watch: &mut Watch,
) -> Result<(), Failure> {
    let asked = part.have();
    let mut request = agent.get(url);
    if let Some(validator) = part.origin().validator.as_ref().filter(|_| asked > 0) {
        request = request.header(header::RANGE, format!("bytes={asked}-")).header(header::IF_RANGE, validator);
    }
    let response = request.call().map_err(|e| unanswered(e, url))?;
    let status = response.status();
    let headers = response.headers();
    match status.as_u16() {
        200 => {
            let total = response.body().content_length();
            part.restart(Origin { url: url.into(), validator: validator(headers), total })?;
        }
        206 if asked > 0 => continues(part, headers, url)?,
        206 | 416 => return Err(Failure::Misfit(refused(url, "the server has another range than was asked for"))),
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            return Err(Failure::Passing(refused(url, format!("the server answers {status}")), retry_after(headers)));
        }
        404 | 410 => {
            let error = refused(url, format!("the server answers {status}"));
            return Err(Failure::Final(error.remedy("check the address; the file may have moved")));
        }
        401 | 403 | 407 => {
            let error = refused(url, format!("the server answers {status}"));
            return Err(Failure::Final(
                error.remedy("it wants permission; fetch the file in a browser, or check the proxy"),
            ));
        }
        _ => return Err(Failure::Final(refused(url, format!("the server answers {status}")))),
    }
    let total = part.origin().total;
    match (total, size) {
        (Some(total), Some(size)) if total != size => {
            let error = refused(url, format!("the server has {} where {} were expected", bytes(total), bytes(size)));
            return Err(Failure::Wrong(error.remedy("it is another version, or the page of a network's login")));
        }
        (Some(total), _) if total > at_most => return Err(Failure::Wrong(too_large(url, at_most))),
        _ => {}
    }
    copy(response.into_body(), part, url, size.unwrap_or(at_most).min(at_most), watch)
}

/// Whether a 206 goes on where `part` ends, with the same version.
fn continues(part: &Part, headers: &HeaderMap, url: &str) -> Result<(), Failure> {
    let range = text(headers, header::CONTENT_RANGE).unwrap_or_default();
    let fits = range.strip_prefix("bytes ").and_then(|rest| rest.split_once('/')).is_some_and(|(span, total)| {
        let first = span.split('-').next().and_then(|n| n.parse().ok());
        first == Some(part.have()) && (total == "*" || total.parse().ok() == part.origin().total)
    });
    let marks = [text(headers, header::ETAG), text(headers, header::LAST_MODIFIED)];
    let known = part.origin().validator.as_deref();
    // A server may leave its mark out of a 206; if it gives some, ours is among them.
    let same = marks.iter().all(Option::is_none) || marks.iter().any(|mark| mark.as_deref() == known);
    match fits && same {
        true => Ok(()),
        false => {
            Err(Failure::Misfit(refused(url, format!("the server goes on with another range or version ({range})"))))
        }
    }
}

fn copy(body: Body, part: &mut Part, url: &str, at_most: u64, watch: &mut Watch) -> Result<(), Failure> {
    let total = part.origin().total;
    let mut body = body.into_reader();
    let mut buffer = vec![0; 1 << 17];
    loop {
        tell(watch, Step::Download { done: part.have(), total })?;
        let n = match body.read(&mut buffer) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(broken(e.into(), part, url)),
        };
        if n == 0 {
            break;
        }
        if part.have() + n as u64 > at_most {
            return Err(Failure::Wrong(too_large(url, at_most)));
        }
        part.append(&buffer[..n])?;
    }
    match total {
        // An honest 206 may bring less than was asked for.
        Some(total) if part.have() < total => Err(short(part, url)),
        Some(total) if part.have() > total => {
            Err(Failure::Misfit(refused(url, "the server sent more than it announced")))
        }
        _ => Ok(()),
    }
}

fn refused(url: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Network, message).on(url)
}

fn too_large(url: &str, at_most: u64) -> Error {
    refused(url, format!("the server has more than the {} that were expected at most", bytes(at_most)))
}

/// No answer came.
fn unanswered(error: ureq::Error, url: &str) -> Failure {
    use ureq::Error as E;
    let told = refused(url, format!("the server can't be asked: {}", plain(&error)));
    match error {
        E::Io(_)
        | E::Timeout(_)
        | E::HostNotFound
        | E::ConnectionFailed
        | E::Protocol(_)
        | E::ConnectProxyFailed(_) => Failure::Passing(told.caused_by(error), None),
        E::RequireHttpsOnly(to) => {
            let error = refused(url, format!("the server leads from https to the unprotected {to}"));
            Failure::Final(
                error.remedy("ask whoever runs it; nothing is fetched without protection that began with it"),
            )
        }
        E::TooManyRedirects => {
            Failure::Final(refused(url, "the server leads from address to address, more than 10 times"))
        }
        _ => Failure::Final(told.caused_by(error)),
    }
}

/// The answer broke off.
fn broken(error: ureq::Error, part: &Part, url: &str) -> Failure {
    let so_far = match part.origin().total {
        Some(total) => format!("after {} of {}", part.have(), bytes(total)),
        None => format!("after {}", bytes(part.have())),
    };
    Failure::Passing(refused(url, format!("the connection ended {so_far}: {}", plain(&error))).caused_by(error), None)
}

fn short(part: &Part, url: &str) -> Failure {
    let total = part.origin().total.unwrap_or_default();
    Failure::Passing(refused(url, format!("the answer ended after {} of {}", part.have(), bytes(total))), None)
}

fn plain(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(e) => e.to_string(),
        ureq::Error::Timeout(_) => "nothing came for too long".into(),
        ureq::Error::HostNotFound => "there is no host of this name, or no network".into(),
        other => other.to_string(),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.trim().to_owned())
}

/// What tells this version from others: a strong ETag, else the date.
fn validator(headers: &HeaderMap) -> Option<String> {
    let strong = text(headers, header::ETAG).filter(|tag| tag.starts_with('"'));
    strong.or_else(|| text(headers, header::LAST_MODIFIED)).filter(|mark| !mark.is_empty())
}

/// The wait that the server asks for, in seconds. Its other form, a date, is left aside: it needs our clock to be right.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, header::RETRY_AFTER)?.parse().ok().map(Duration::from_secs)
}

//! What the environment says: where files are kept, whether the network may be used, which proxy leads to it.
//!
//! Each value is parsed once, here, and one that can't be understood is an error that names its variable: a typo in
//! `HTTPS_PROXY` that silently meant "no proxy" would end in a timeout that explains nothing.

use crate::{Error, ErrorKind, Result};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use ureq::http::Uri;
use ureq::{Proxy, ProxyBuilder, ProxyProtocol};

/// The variable that names the folder in which downloads are kept.
pub const HOME: &str = "ONECYCLE_HOME";
/// The variable that forbids the network when it is 1.
pub const OFFLINE: &str = "ONECYCLE_OFFLINE";
/// Hugging Face's variable of the same meaning; whoever has set it means us too.
const HF_OFFLINE: &str = "HF_HUB_OFFLINE";

/// A variable's value; an empty one is as good as none.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The value of a variable of the environment, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Where downloads are kept: `ONECYCLE_HOME`, else `onecycle` in the platform's folder for data (`XDG_DATA_HOME` or
/// `~/.local/share`; `~/Library/Application Support` on macOS; `%LOCALAPPDATA%` on Windows). An absolute path; nothing is created.
///
/// # Errors
/// [`ErrorKind::Argument`] naming the variable when there is no such folder.
pub fn home() -> Result<PathBuf> {
    home_on(std::env::consts::OS, &variable)
}

fn home_on(system: &str, get: Lookup) -> Result<PathBuf> {
    if let Some(named) = get(HOME) {
        return std::path::absolute(&named).map_err(|e| Error::io("find the folder", named.as_ref(), e));
    }
    let folder = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = match system {
        "windows" => folder("LOCALAPPDATA"),
        "macos" => folder("HOME").map(|home| home.join("Library/Application Support")),
        _ => folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share"))),
    };
    data.map(|data| data.join("onecycle")).ok_or_else(|| {
        let error = Error::new(ErrorKind::Argument, "it is not known where to keep downloads").on(HOME);
        error.remedy("let the variable name a folder")
    })
}

/// Whether the network must not be used: the name of the variable that says so. Either `ONECYCLE_OFFLINE` or `HF_HUB_OFFLINE` is
/// enough.
///
/// # Errors
/// [`ErrorKind::Argument`] when `ONECYCLE_OFFLINE` is neither yes nor no.
pub fn is_offline() -> Result<Option<&'static str>> {
    offline_by(&variable)
}

fn offline_by(get: Lookup) -> Result<Option<&'static str>> {
    let value = |name| get(name).map(|v| v.to_string_lossy().trim().to_ascii_lowercase());
    match value(OFFLINE).as_deref() {
        Some("1" | "true" | "yes" | "on") => return Ok(Some(OFFLINE)),
        None | Some("0" | "false" | "no" | "off") => {}
        Some(other) => {
            let error = Error::new(ErrorKind::Argument, format!("`{other}` is neither yes nor no"));
            return Err(error.on(OFFLINE).remedy("it takes 1 or 0"));
        }
    }
    // Theirs is read as they read it: everything else is a no.
    Ok(matches!(value(HF_OFFLINE).as_deref(), Some("1" | "true" | "yes" | "on")).then_some(HF_OFFLINE))
}

/// The proxy on the way to `url`: of `https_proxy` or `http_proxy`, by the URL's scheme, else of `all_proxy`, in small or capital
/// letters; none for a host that `no_proxy` lists, and none for this machine itself, which no proxy can see.
///
/// ureq has a reader of its own, which takes the first variable whatever the scheme and ignores a value that it doesn't understand.
pub(super) fn proxy(url: &str) -> Result<Option<Proxy>> {
    proxy_by(url, &variable)
}

fn proxy_by(url: &str, get: Lookup) -> Result<Option<Proxy>> {
    let scheme = url.split("://").next().unwrap_or_default().to_ascii_lowercase();
    let names = [format!("{scheme}_proxy"), "all_proxy".to_owned()];
    let spelled = |name: &String| [name.clone(), name.to_ascii_uppercase()];
    let found = names.iter().flat_map(spelled).find_map(|name| get(&name).map(|value| (name, value)));
    let Some((name, value)) = found.filter(|_| !is_here(url)) else { return Ok(None) };
    let malformed = || {
        let error = Error::new(ErrorKind::Argument, "this is not the address of a proxy").on(&name);
        error.remedy("write it as http://HOST:PORT, or unset the variable")
    };
    let value = value.into_string().map_err(|_| malformed())?;
    let proxy = Proxy::new(value.trim()).map_err(|e| malformed().caused_by(e))?;
    let Some(exceptions) = get("no_proxy").or_else(|| get("NO_PROXY")) else { return Ok(Some(proxy)) };
    let mut builder: ProxyBuilder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(user) = proxy.username() {
        builder = builder.username(user);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for host in exceptions.to_string_lossy().split(',').map(str::trim).filter(|host| !host.is_empty()) {
        // As elsewhere, a domain stands for the hosts in it too.
        let domain = host.trim_start_matches("*.").trim_start_matches('.');
        builder =
            if host == "*" { builder.no_proxy("*") } else { builder.no_proxy(domain).no_proxy(&format!(".{domain}")) };
    }
    // SOCKS4 resolves here, the others there; the builder knows neither from a URL.
    builder = builder.resolve_target(proxy.protocol() == ProxyProtocol::Socks4);
    builder.build().map(Some).map_err(|e| malformed().caused_by(e))
}

/// Whether the URL's host is this machine.
fn is_here(url: &str) -> bool {
    let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(|h| h.trim_matches(['[', ']']).to_owned()));
    host.is_some_and(|host| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn with<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())
    }

    #[test]
    fn each_platform_has_its_folder() {
        let everything = [("HOME", "/u"), ("XDG_DATA_HOME", "/x"), ("LOCALAPPDATA", "/l")];
        let of = |system, pairs: &[_]| home_on(system, &with(pairs)).unwrap();
        assert_eq!(of("linux", &everything), Path::new("/x/onecycle"));
        assert_eq!(of("linux", &everything[..1]), Path::new("/u/.local/share/onecycle"));
        assert_eq!(
            of("linux", &[("HOME", "/u"), ("XDG_DATA_HOME", "not/absolute")]),
            Path::new("/u/.local/share/onecycle")
        );
        assert_eq!(of("macos", &everything), Path::new("/u/Library/Application Support/onecycle"));
        assert_eq!(of("windows", &everything), Path::new("/l/onecycle"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(of("linux", &[("HOME", "/u"), (HOME, "my data")]), here.join("my data"));
        let nowhere = home_on("linux", &with(&[])).unwrap_err();
        assert_eq!((nowhere.kind(), nowhere.item()), (ErrorKind::Argument, Some(HOME)));
    }

    #[test]
    fn one_of_two_variables_is_enough_to_be_offline() {
        let of = |pairs: &[_]| offline_by(&with(pairs));
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[(OFFLINE, "0"), (HF_OFFLINE, "no")]).unwrap(), None);
        assert_eq!(of(&[(OFFLINE, "Yes")]).unwrap(), Some(OFFLINE));
        assert_eq!(of(&[(OFFLINE, "off"), (HF_OFFLINE, "1")]).unwrap(), Some(HF_OFFLINE));
        assert_eq!(of(&[(OFFLINE, "maybe")]).unwrap_err().item(), Some(OFFLINE));
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        let pairs = [
            ("HTTPS_PROXY", "http://me:p%40ss@one:1"),
            ("http_proxy", "two:2"),
            ("NO_PROXY", "a.org, .b.org,10.0.0.1"),
        ];
        let of = |url: &str| proxy_by(url, &with(&pairs)).unwrap().unwrap();
        let secure = of("https://host/file");
        assert_eq!(
            (secure.host(), secure.port(), secure.username(), secure.password()),
            ("one", 1, Some("me"), Some("p@ss"))
        );
        assert_eq!(of("http://host/file").port(), 2);
        for (host, direct) in
            [("a.org", true), ("s3.a.org", true), ("aa.org", false), ("b.org", true), ("10.0.0.1", true)]
        {
            assert_eq!(secure.is_no_proxy(&format!("https://{host}/x").parse().unwrap()), direct, "{host}");
        }
        assert!(proxy_by("https://host/", &with(&[("HTTP_PROXY", "two:2")])).unwrap().is_none());
        assert_eq!(proxy_by("https://host/", &with(&[("ALL_PROXY", "three:3")])).unwrap().unwrap().port(), 3);
        for here in ["http://localhost/", "http://127.0.0.1:80/x", "http://[::1]/"] {
            assert!(proxy_by(here, &with(&pairs)).unwrap().is_none(), "{here}");
        }
        let wrong = proxy_by("http://host/", &with(&[("HTTP_PROXY", "http://")])).unwrap_err();
        assert_eq!((wrong.kind(), wrong.item()), (ErrorKind::Argument, Some("HTTP_PROXY")));
    }
}

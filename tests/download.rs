//! Downloads from a server that cuts, stalls, lies and refuses: the file gets its name when it is right, and never before.
#![cfg(feature = "download")]

mod common;

use common::http::{Answer, Hosted, Request, Server};
use common::tape::{Entry, tar};
use flate2::{Compression, write::GzEncoder};
use onecycle::data::UntarData;
use onecycle::fetch::{Checks, Download, Patience, Step, unwatched};
use onecycle::{Error, ErrorKind};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const MS: Duration = Duration::from_millis(1);

/// Quick, so that the tests are.
fn patience(retries: u32) -> Patience {
    Patience { retries, first_wait: MS, longest_wait: Duration::from_secs(2), stall: Duration::from_secs(10) }
}

/// Bytes in which every place is another.
fn bytes(n: usize) -> Vec<u8> {
    (0..n as u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).take(n).collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("fi le ä.bin")
    }

    fn get(&self, url: &str, retries: u32) -> Download {
        Download::new(url, self.file()).patience(patience(retries)).offline(false)
    }

    /// The sentence of a failure that leaves no file, and what is left of the growing one.
    fn fails(&self, download: &Download) -> (Error, Option<u64>) {
        let error = download.run(&mut unwatched).unwrap_err();
        assert!(!self.file().exists(), "a file got its name in spite of: {error}");
        let part = self.file().with_file_name("fi le ä.bin.part");
        (error, part.metadata().ok().map(|m| m.len()))
    }

    /// The file is this, and nothing else is left but the lock.
    fn has(&self, body: &[u8]) {
        assert!(std::fs::read(self.file()).unwrap() == body, "other bytes");
        let mut names: Vec<_> = self.0.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".fi le ä.bin.lock", "fi le ä.bin"]);
    }
}

fn sha256(body: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn a_cut_connection_is_gone_on_with_wherever_it_was_cut() {
    let body = bytes(300_000);
    let offsets: Vec<usize> = (0..20).map(|i| i * (body.len() - 1) / 19).collect();
    for (i, offset) in offsets.into_iter().enumerate() {
        let file = Hosted::new(body.clone());
        let server = Server::new(move |request, n| Answer { cut: (n == 0).then_some(offset), ..file.answer(request) });
        let place = Place::new();
        let url = server.url("f");
        // By a second attempt, and by a second call, as after a `kill`.
        if i % 2 == 0 {
            place.get(&url, 1).run(&mut unwatched).unwrap();
        } else {
            let (error, kept) = place.fails(&place.get(&url, 0));
            assert_eq!((error.kind(), kept), (ErrorKind::Network, Some(offset as u64)));
            assert!(error.to_string().contains(&url) && error.to_string().contains("are kept in"), "{error}");
            place.get(&url, 0).checks(Checks::sha256(sha256(&body))).run(&mut unwatched).unwrap();
        }
        place.has(&body);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1].from(), (offset > 0).then_some(offset), "only what is missing is asked for");
        assert_eq!(requests[1].header("if-range"), (offset > 0).then_some("\"v1\""));
        assert!(requests.iter().all(|r| r.header("accept-encoding") == Some("identity")));
    }
}

#[test]
fn twenty_cuts_in_one_download() {
    let body = bytes(4 << 20);
    let file = Hosted { etag: None, modified: Some("Wed, 01 Feb 2023 00:00:00 GMT"), ..Hosted::new(body.clone()) };
    let server = Server::new(move |request, _| Answer { cut: Some(205_000), ..file.answer(request) });
    let place = Place::new();
    // Six attempts bring a MiB, which gives all of them back; so six are enough for the twenty that it takes.
    place.get(&server.url("f"), 6).run(&mut unwatched).unwrap();
    place.has(&body);
    assert_eq!(server.requests().len(), body.len().div_ceil(205_000));
}

#[test]
fn what_cannot_be_gone_on_with_begins_anew() {
    let (old, new) = (bytes(50_000), bytes(60_000)[1..].to_vec());
    let cut = |answer: Answer, n| Answer { cut: (n == 0).then_some(20_000), ..answer };
    type Script = Box<dyn Fn(&Request, usize) -> Answer + Send + Sync>;
    let hosted = |etag, body: &Vec<u8>| Hosted { body: body.clone(), etag, modified: None };
    let v1 = hosted(Some("\"v1\""), &old);
    let [a, b, c, d, e] = [(); 5].map(|()| v1.clone());
    let plain = |body: &Vec<u8>| Answer { status: 200, body: body.clone(), ..Answer::default() };
    let (v2, weak, ignoring) = (hosted(Some("\"v2\""), &new), hosted(Some("W/\"v1\""), &old), plain(&old));
    let lying =
        plain(&new[20_000..50_000].to_vec()).with("Content-Range", "bytes 20000-49999/50000").with("ETag", "\"v2\"");
    let cases: Vec<(&str, Script, usize, &Vec<u8>)> = vec![
        ("range ignored", Box::new(move |r, n| if n == 0 { cut(a.answer(r), n) } else { ignoring.clone() }), 2, &old),
        ("etag changed", Box::new(move |r, n| cut(if n == 0 { b.answer(r) } else { v2.answer(r) }, n)), 2, &new),
        ("no strong mark", Box::new(move |r, n| cut(weak.answer(r), n)), 2, &old),
        (
            "another version under the old range",
            Box::new(move |r, n| if n == 1 { Answer { status: 206, ..lying.clone() } } else { cut(c.answer(r), n) }),
            3,
            &old,
        ),
        (
            "another range",
            Box::new(move |r, n| match n {
                1 => Answer { body: vec![7; 10], ..Answer::status(206) }.with("Content-Range", "bytes 5-14/50000"),
                _ => cut(d.answer(r), n),
            }),
            3,
            &old,
        ),
        ("416", Box::new(move |r, n| if n == 1 { Answer::status(416) } else { cut(e.answer(r), n) }), 3, &old),
    ];
    for (what, script, requests, body) in cases {
        let (server, place) = (Server::new(script), Place::new());
        place.get(&server.url("f"), 2).run(&mut unwatched).unwrap_or_else(|e| panic!("{what}: {e}"));
        place.has(body);
        assert_eq!(server.requests().len(), requests, "{what}");
    }
}

#[test]
fn a_file_that_is_complete_and_was_not_renamed_is_not_fetched_again() {
    // As after a `kill` between the last byte and the name.
    let (body, place) = (bytes(40_000), Place::new());
    let file = Hosted::new(body.clone());
    let server = Server::new(move |request, _| Answer { cut: Some(20_000), ..file.answer(request) });
    place.fails(&place.get(&server.url("f"), 0));
    std::fs::write(place.file().with_file_name("fi le ä.bin.part"), &body).unwrap();
    place.get(&server.url("f"), 0).run(&mut unwatched).unwrap();
    place.has(&body);
    assert_eq!(server.requests().len(), 1);
    // And what is longer than the file can't be a part of it.
    let place = Place::new();
    place.fails(&place.get(&server.url("f"), 0));
    std::fs::write(place.file().with_file_name("fi le ä.bin.part"), bytes(50_000)).unwrap();
    place.get(&server.url("f"), 1).run(&mut unwatched).unwrap();
    place.has(&body);
}

#[test]
fn wrong_bytes_never_get_the_name() {
    let body = bytes(100_000);
    let server = Server::hosting(Hosted::new(body.clone()));
    let url = server.url("f");
    let right = sha256(&body);
    let wrong = right.replace(|c: char| c.is_ascii_digit(), "a");
    for (checks, told) in [
        (Checks::sha256(wrong.clone()), "SHA-256"),
        (Checks::sha256(wrong[..16].to_owned()), "SHA-256"),
        (Checks::fastai(100_000, "00000000000000000000000000000000"), "MD5"),
    ] {
        let place = Place::new();
        let (error, kept) = place.fails(&place.get(&url, 3).checks(checks));
        assert_eq!((error.kind(), kept), (ErrorKind::Network, None), "what is wrong is not gone on with");
        assert!(error.to_string().contains(told) && error.to_string().contains("expected was"), "{error}");
    }
    assert_eq!(server.requests().len(), 3, "the same bytes would come again");
    let place = Place::new();
    let (error, _) = place.fails(&place.get(&url, 3).checks(Checks::sha256("resnet34")));
    assert_eq!((error.kind(), server.requests().len()), (ErrorKind::Argument, 3), "nothing is asked for in vain");
    let place = Place::new();
    place.get(&url, 0).checks(Checks::sha256(right[..8].to_owned()).size(100_000)).run(&mut unwatched).unwrap();
    place.has(&body);
}

#[test]
fn lengths_are_claims() {
    let body = bytes(30_000);
    let told = |answer: Answer, change: fn(Download) -> Download| {
        let (server, place) = (Server::new(move |_, _| answer.clone()), Place::new());
        let (error, _) = place.fails(&change(place.get(&server.url("f"), 1)));
        assert_eq!(error.kind(), ErrorKind::Network);
        (error.to_string(), server.requests().len())
    };
    let of = |body: &Vec<u8>| Answer { status: 200, body: body.clone(), ..Answer::default() };
    let (text, tries) = told(Answer { announced: Some(40_000), ..of(&body) }, |d| d);
    assert!(text.contains("after 30000 of 40000 bytes") && text.contains("2 attempts") && tries == 2, "{text}");
    let (text, tries) = told(Answer { chunked: true, cut: Some(20_000), ..of(&body) }, |d| d);
    assert!(text.contains("after 20000 bytes") && tries == 2, "{text}");
    // What is known beforehand is not fetched to be thrown away.
    let (text, tries) = told(of(&body), |d| d.checks(Checks::none().size(29_999)));
    assert!(text.contains("30000 bytes where 29999 bytes were expected") && tries == 1, "{text}");
    let (text, tries) = told(of(&body), |d| d.at_most(29_999));
    assert!(text.contains("more than the 29999 bytes") && tries == 1, "{text}");
    let (text, tries) = told(Answer { chunked: true, ..of(&body) }, |d| d.at_most(29_999));
    assert!(text.contains("more than the 29999 bytes") && tries == 1, "{text}");
    let (text, _) = told(Answer { chunked: true, ..of(&body) }, |d| d.checks(Checks::none().size(31_000)));
    assert!(text.contains("it has 30000 bytes, expected was 31000 bytes"), "{text}");
    // More bytes than announced are somebody else's.
    let longer = Answer { announced: Some(20_000), ..of(&body) };
    let (server, place) = (Server::new(move |_, _| longer.clone()), Place::new());
    place.get(&server.url("f"), 0).run(&mut unwatched).unwrap();
    place.has(&body[..20_000]);
}

#[test]
fn each_status_has_its_patience() {
    for (status, attempts) in
        [(403, 1), (404, 1), (410, 1), (400, 1), (501, 1), (204, 1), (500, 4), (502, 4), (503, 4), (429, 4)]
    {
        let (server, place) = (Server::new(move |_, _| Answer::status(status)), Place::new());
        let (error, _) = place.fails(&place.get(&server.url("f"), 3));
        assert_eq!(error.kind(), ErrorKind::Network);
        assert!(error.to_string().contains(&format!("the server answers {status}")), "{error}");
        assert_eq!(server.requests().len(), attempts, "{status}");
    }
}

#[test]
fn the_servers_wait_is_kept() {
    let file = Hosted::new(bytes(1000));
    let server = Server::new(move |request, n| match n {
        0 => Answer::status(429).with("Retry-After", 1),
        1 => Answer::status(503).with("Retry-After", "Wed, 01 Feb 2023 00:00:00 GMT"),
        _ => file.answer(request),
    });
    let (place, began, mut waits) = (Place::new(), Instant::now(), Vec::new());
    let watched = place.get(&server.url("f"), 3).run(&mut |step| {
        if let Step::Retry { wait, left, .. } = step {
            waits.push((*wait, *left));
        }
        ControlFlow::Continue(())
    });
    watched.unwrap();
    place.has(&bytes(1000));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(waits, [(Duration::from_secs(1), 2), (2 * MS, 1)], "the server's, then ours, which has doubled");
    // Nobody waits for an hour without having been asked.
    let server = Server::new(|_, _| Answer::status(429).with("Retry-After", 3600));
    let place = Place::new();
    let (error, _) = place.fails(&place.get(&server.url("f"), 3));
    assert!(error.to_string().contains("asks for 3600 s"), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn redirections_are_followed_and_not_for_ever() {
    let body = bytes(50_000);
    let file = Hosted::new(body.clone());
    let there = Server::new(move |request, n| Answer { cut: (n == 0).then_some(30_000), ..file.answer(request) });
    let to = there.url("real");
    let here = Server::new(move |request, _| match request.path.as_str() {
        "/first" => Answer::status(302).with("Location", "/second"),
        "/second" => Answer::status(307).with("Location", &to),
        _ => Answer::status(301).with("Location", &request.path),
    });
    let place = Place::new();
    place.get(&here.url("first"), 1).run(&mut unwatched).unwrap();
    place.has(&body);
    assert_eq!((here.requests().len(), there.requests().len()), (4, 2));
    assert_eq!(there.requests()[1].from(), Some(30_000), "the range goes along");
    let (error, _) = place_fails(&here.url("round"), 3);
    assert!(error.to_string().contains("from address to address"), "{error}");
    assert!(here.requests().len() < 4 + 13, "{} requests", here.requests().len());
}

fn place_fails(url: &str, retries: u32) -> (Error, Option<u64>) {
    let place = Place::new();
    place.fails(&place.get(url, retries))
}

#[test]
fn silence_ends_an_attempt() {
    let body = bytes(50_000);
    let file = Hosted::new(body.clone());
    let server = Server::new(move |request, n| match n {
        0 => Answer { stall: Some(20_000), ..file.answer(request) },
        1 => Answer { pause: Duration::from_secs(2), ..file.answer(request) },
        _ => file.answer(request),
    });
    let (place, began, mut reasons) = (Place::new(), Instant::now(), Vec::new());
    let patience = Patience { stall: 150 * MS, ..patience(2) };
    let watched = place.get(&server.url("f"), 2).patience(patience).run(&mut |step| {
        if let Step::Retry { reason, .. } = step {
            reasons.push(reason.clone());
        }
        ControlFlow::Continue(())
    });
    watched.unwrap();
    place.has(&body);
    assert!(reasons[0].contains("after 20000 of 50000 bytes: nothing came for too long"), "{reasons:?}");
    assert!(reasons[1].contains("can't be asked: nothing came for too long"), "{reasons:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn no_server_is_a_sentence_with_a_way_out() {
    let gone = Server::new(|_, _| Answer::status(200)).url("f");
    let (error, _) = place_fails(&gone, 1);
    assert_eq!((error.kind(), error.item()), (ErrorKind::Network, Some(&*gone)));
    assert!(error.advice().contains("HTTPS_PROXY") && error.advice().contains("fi le ä.bin"), "{error}");
    for no_url in ["pets.tgz", "ftp://host/pets.tgz", "file:///etc/passwd", ""] {
        assert_eq!(place_fails(no_url, 1).0.kind(), ErrorKind::Argument, "{no_url}");
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_not_believed() {
    // No certificate of ours is among the world's, so this is as far as a test on loopback gets: TLS is there, and it insists.
    let server = Server::hosting(Hosted::new(bytes(1000)));
    let (error, _) = place_fails(&format!("https://127.0.0.1:{}/f", server.port()), 0);
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("can't be asked"), "{error}");
}

#[test]
fn two_at_once_fetch_once() {
    let body = bytes(200_000);
    let file = Hosted::new(body.clone());
    let server = Server::new(move |request, _| Answer { pause: 100 * MS, ..file.answer(request) });
    let (place, queued) = (Place::new(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let watched = place.get(&server.url("f"), 0).run(&mut |step| {
                    queued.fetch_add(usize::from(*step == Step::Queued), Ordering::SeqCst);
                    ControlFlow::Continue(())
                });
                watched.unwrap();
            });
        }
    });
    place.has(&body);
    assert_eq!(server.requests().len(), 1);
    assert!(queued.load(Ordering::SeqCst) > 0, "nobody had to wait");
}

#[test]
fn whoever_watches_can_stop_it() {
    let body = bytes(1 << 20);
    let server = Server::hosting(Hosted::new(body.clone()));
    let place = Place::new();
    let error = place.get(&server.url("f"), 5).run(&mut |step| match step {
        Step::Download { done, .. } if *done > 300_000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(!place.file().exists());
    place.get(&server.url("f"), 0).run(&mut unwatched).unwrap();
    place.has(&body);
    assert!(server.requests()[1].from().unwrap() > 300_000, "what had come is kept");
    // In a wait, too.
    let server = Server::new(|_, _| Answer::status(503).with("Retry-After", 2));
    let (place, began) = (Place::new(), Instant::now());
    let error = place.get(&server.url("f"), 5).run(&mut |step| match step {
        Step::Wait { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn offline_takes_what_is_there() {
    let body = bytes(1000);
    let server = Server::hosting(Hosted::new(body.clone()));
    let place = Place::new();
    let offline = place.get(&server.url("f"), 0).offline(true).checks(Checks::none().size(1000));
    let (error, _) = place.fails(&offline);
    let told = error.to_string();
    let place_by_hand = format!("put it at {}", place.file().display());
    for word in [&server.url("f"), "ONECYCLE_OFFLINE", &place_by_hand] {
        assert!(told.contains(word), "{told}");
    }
    std::fs::write(place.file(), &body).unwrap();
    offline.run(&mut unwatched).unwrap();
    // And takes nothing else for it.
    std::fs::write(place.file(), b"<html>please log in").unwrap();
    assert_eq!(offline.run(&mut unwatched).unwrap_err().kind(), ErrorKind::Network);
    assert_eq!(server.requests().len(), 0);
}

/// An archive of two classes, as fastai's are: one folder, named otherwise than the archive.
fn pictures(more: &str) -> Vec<u8> {
    let entries = [
        Entry::folder("inner"),
        Entry::file("inner/images/cat_1.jpg", bytes(700)),
        Entry::file("inner/images/dog_1.jpg", bytes(900)),
        Entry::file("inner/version", more),
    ];
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&tar(&entries)).unwrap();
    gz.finish().unwrap()
}

/// What is below `dir`, but locks.
fn tree(dir: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            } else if path.extension().is_none_or(|e| e != "lock") {
                found.push(path.strip_prefix(dir).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_data_set_is_fetched_unpacked_and_then_just_there() {
    let versions = [pictures("one"), pictures("two and more")];
    let etags = ["\"1\"", "\"2\""];
    let sizes = versions.each_ref().map(|v| v.len() as u64);
    let now = std::sync::Arc::new(AtomicUsize::new(0));
    let current = std::sync::Arc::clone(&now);
    let server = Server::new(move |request, _| {
        let n = current.load(Ordering::SeqCst);
        Hosted { body: versions[n].clone(), etag: Some(etags[n]), modified: None }.answer(request)
    });
    let home = tempfile::tempdir().unwrap();
    let url = server.url("a/pets.tgz?x=1");
    let job = || UntarData::new(&*url).home(home.path()).patience(patience(0)).offline(false);
    let mut unpacked = 0;
    let path = job().run(&mut |step| {
        unpacked += usize::from(matches!(step, Step::Unpack { .. }));
        ControlFlow::Continue(())
    });
    let path = path.unwrap();
    assert!(unpacked > 0);
    assert_eq!(path, home.path().join("data/pets"));
    assert!(path.is_absolute());
    let all = ["archive/pets.tgz", "data/pets/images/cat_1.jpg", "data/pets/images/dog_1.jpg", "data/pets/version"];
    assert_eq!(tree(home.path()), all);
    assert_eq!(std::fs::read(path.join("images/dog_1.jpg")).unwrap(), bytes(900));
    assert_eq!(onecycle::data::get_image_files(&path).unwrap().len(), 2);

    // A folder that is there is taken as it is, without a question to anybody.
    std::fs::remove_file(home.path().join("archive/pets.tgz")).unwrap();
    job().offline(true).run(&mut unwatched).unwrap();
    assert_eq!(server.requests().len(), 1);
    // Asked for anew, the old one stays until the new one is whole.
    let failed = job().force_download(true).offline(true).run(&mut unwatched);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Network);
    now.store(1, Ordering::SeqCst);
    let version = || std::fs::read_to_string(path.join("version")).unwrap();
    assert_eq!(version(), "one");
    job().force_download(true).run(&mut unwatched).unwrap();
    assert_eq!(version(), "two and more");
    assert_eq!(tree(home.path()), all);

    // An archive of another version is fetched again; one that fits is unpacked without the network.
    std::fs::remove_dir_all(&path).unwrap();
    now.store(0, Ordering::SeqCst);
    let sized = |n: usize| {
        let from = onecycle::data::Remote::from(&*url).checks(Checks::none().size(sizes[n]));
        UntarData::new(from).home(home.path()).patience(patience(0))
    };
    let mut outdated = 0;
    let fetched = sized(0).offline(false).run(&mut |step| {
        outdated += usize::from(*step == Step::Outdated);
        ControlFlow::Continue(())
    });
    fetched.unwrap();
    assert_eq!((version().as_str(), outdated), ("one", 1));
    std::fs::remove_dir_all(&path).unwrap();
    sized(0).offline(true).run(&mut unwatched).unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_hostile_archive_leaves_nothing() {
    let outside = Entry::special("pets/out", b'2', "../../..");
    let archive = tar(&[Entry::file("pets/a.jpg", "a"), outside, Entry::file("pets/out/evil", "evil")]);
    let server = Server::hosting(Hosted::new(archive));
    let home = tempfile::tempdir().unwrap();
    let job = UntarData::new(server.url("pets.tar")).home(home.path()).patience(patience(0)).offline(false);
    let error = job.run(&mut unwatched).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Archive);
    assert!(error.to_string().contains("pets.tar: `pets/out`: it is a symbolic link"), "{error}");
    assert_eq!(tree(home.path()), ["archive/pets.tar"]);
}

/// The environment is a process's, so these run the program.
#[cfg(feature = "cli")]
mod program {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Output, Stdio};

    fn onecycle(home: &Path, args: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onecycle"));
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "ONECYCLE_OFFLINE", "HF_HUB_OFFLINE"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env("ONECYCLE_HOME", home).envs(environment.iter().copied());
        command.arg("download").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn text(output: &Output) -> (Option<i32>, String, String) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    #[test]
    fn the_folder_is_the_result() {
        let server = Server::hosting(Hosted::new(pictures("one")));
        let home = tempfile::tempdir().unwrap();
        let url = server.url("pets.tgz");
        let (status, out, err) = text(&onecycle(home.path(), &[&url], &[]).output().unwrap());
        let folder = home.path().join("data/pets");
        assert_eq!((status, out.trim_end()), (Some(0), folder.to_str().unwrap()), "{err}");
        assert!(err.contains("download ") && err.contains("unpack ") && !err.contains('\x1b'), "{err}");
        // The variable forbids nothing that is there.
        let (status, out, err) =
            text(&onecycle(home.path(), &[&url, "--json", "-q"], &[("HF_HUB_OFFLINE", "1")]).output().unwrap());
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((status, json["path"].as_str(), json["url"].as_str()), (Some(0), folder.to_str(), Some(&*url)));
        assert_eq!(err, "");
        // --home wins over the variable, and what isn't there can't be had offline.
        let other = home.path().join("other");
        let args = [&*url, "--home", other.to_str().unwrap()];
        for name in ["ONECYCLE_OFFLINE", "HF_HUB_OFFLINE"] {
            let (status, out, err) = text(&onecycle(home.path(), &args, &[(name, "1")]).output().unwrap());
            assert_eq!((status, &*out), (Some(1), ""));
            let by_hand = format!(
                "unset {name}, or fetch the file elsewhere and put it at {}",
                other.join("archive/pets.tgz").display()
            );
            assert!(err.contains(&url) && err.contains(&by_hand), "{err}");
        }
        assert_eq!(server.requests().len(), 1);
    }

    #[test]
    fn a_proxy_is_taken_and_passed_by() {
        let server = Server::hosting(Hosted::new(pictures("one")));
        // The name has no address; only the proxy is asked.
        let (url, proxy) = ("http://data.invalid/pets.tgz", server.url(""));
        let connects = || server.requests().iter().filter(|r| r.method == "CONNECT").count();
        let home = tempfile::tempdir().unwrap();
        let (status, _, err) = text(&onecycle(home.path(), &[url], &[("HTTP_PROXY", &proxy)]).output().unwrap());
        assert_eq!((status, connects()), (Some(0), 1), "{err}");
        assert_eq!(server.requests()[0].path, "data.invalid:80");

        // For this machine there is no proxy, and for a host that is excepted there is none either: that one can't be found.
        let here = server.url("others.tgz");
        let (status, _, err) = text(&onecycle(home.path(), &[&here], &[("HTTP_PROXY", &proxy)]).output().unwrap());
        assert_eq!((status, connects()), (Some(0), 1), "{err}");
        let excepted = [("HTTP_PROXY", &*proxy), ("NO_PROXY", "example.org, invalid")];
        let mut child = onecycle(home.path(), &[url, "--force"], &excepted).spawn().unwrap();
        let first = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(first.contains("can't be asked"), "{first}");
        assert_eq!(connects(), 1);

        let wrong = [("HTTP_PROXY", "no proxy")];
        let (status, _, err) = text(&onecycle(home.path(), &[url, "--force"], &wrong).output().unwrap());
        assert!(status == Some(1) && err.contains("HTTP_PROXY: this is not the address of a proxy"), "{err}");
    }

    #[test]
    fn two_processes_fetch_once() {
        let file = Hosted::new(pictures("one"));
        let server = Server::new(move |request, _| Answer { pause: 300 * MS, ..file.answer(request) });
        let home = tempfile::tempdir().unwrap();
        let url = server.url("pets.tgz");
        let both = [(); 2].map(|()| onecycle(home.path(), &[&url], &[]).spawn().unwrap());
        for child in both {
            let (status, _, err) = text(&child.wait_with_output().unwrap());
            assert_eq!(status, Some(0), "{err}");
        }
        assert_eq!(server.requests().len(), 1);
        let all = ["archive/pets.tgz", "data/pets/images/cat_1.jpg", "data/pets/images/dog_1.jpg", "data/pets/version"];
        assert_eq!(tree(home.path()), all);
    }

    #[test]
    fn names_and_their_neighbours() {
        let home = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| text(&onecycle(home.path(), args, &[("ONECYCLE_OFFLINE", "1")]).output().unwrap());
        let (status, out, _) = run(&["--list"]);
        assert_eq!(status, Some(0));
        let first: Vec<&str> = out.lines().next().unwrap().split_whitespace().collect();
        let url = "https://s3.amazonaws.com/fast-ai-imageclas/oxford-iiit-pet.tgz";
        assert_eq!(first, ["PETS", "811.7", "MB", url]);
        let (_, json, _) = run(&["--list", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json[0]["size"], 811_706_944);
        assert_eq!(json.as_array().unwrap().len(), out.lines().count());
        let (status, _, err) = run(&["imagenete-160"]);
        assert!(status == Some(2) && err.contains("did you mean `IMAGENETTE_160`?"), "{err}");
        let (status, _, err) = run(&["https://host/pets.zip"]);
        assert!(status == Some(2) && err.contains(".tgz"), "{err}");
        assert_eq!(run(&[]).0, Some(2), "a name or --list");
        let (status, _, err) = run(&["pets"]);
        assert!(status == Some(1) && err.contains("oxford-iiit-pet.tgz") && err.contains("ONECYCLE_OFFLINE"), "{err}");
    }

    #[cfg(unix)]
    #[test]
    fn ctrl_c_keeps_what_has_come() {
        if common::ignored("INT", 2) {
            return;
        }
        let body = bytes(400_000);
        let file = Hosted::new(body);
        let server = Server::new(move |request, _| Answer { stall: Some(200_000), ..file.answer(request) });
        let home = tempfile::tempdir().unwrap();
        let mut child = onecycle(home.path(), &[&server.url("pets.tgz")], &[]).spawn().unwrap();
        let part = home.path().join("archive/pets.tgz.part");
        let began = Instant::now();
        while part.metadata().map_or(0, |m| m.len()) < 200_000 {
            assert!(began.elapsed() < Duration::from_secs(20), "nothing came");
            std::thread::sleep(5 * MS);
        }
        // The first asks, and waits for the next byte; the second ends.
        for _ in 0..2 {
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
            std::thread::sleep(100 * MS);
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert_eq!(part.metadata().unwrap().len(), 200_000);
    }
}

//! Archives by people who mean harm, and by disks that lose bytes: nothing is written outside the folder, nothing of a refused
//! archive is left, and each refusal names the entry.
#![cfg(feature = "download")]

mod common;

use common::tape::{Entry, checksum, tar};
use flate2::{Compression, write::GzEncoder};
use onecycle::fetch::{Step, Unpack, unwatched};
use onecycle::{Error, ErrorKind};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A folder `data`, an archive beside it, and a neighbour whom nothing must happen to.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(archive: &[u8]) -> Place {
        // In memory where there is such a place: thousands of archives are written through to the disk here.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let place = Place { dir: dir.unwrap() };
        fs::write(place.archive(), archive).unwrap();
        fs::create_dir(place.at("data")).unwrap();
        fs::write(place.at("neighbour"), "untouched").unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn archive(&self) -> PathBuf {
        self.at("archive.tgz")
    }

    fn unpack(&self, rules: Unpack) -> Result<(), Error> {
        let outcome = rules.run(&self.archive(), &self.at("data/set"), &mut unwatched);
        // Whatever came of it: the neighbour is as he was, and there is nobody new.
        assert_eq!(fs::read(self.at("neighbour")).unwrap(), b"untouched");
        assert_eq!(names(self.dir.path()), ["archive.tgz", "data", "neighbour"]);
        let left: Vec<String> = names(&self.at("data")).into_iter().filter(|n| !n.ends_with(".lock")).collect();
        let whole: &[&str] = if outcome.is_ok() { &["set"] } else { &[] };
        assert_eq!(left, whole, "{outcome:?}");
        outcome
    }

    fn set(&self) -> PathBuf {
        self.at("data/set")
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The sentence with which an archive of these entries is refused.
fn refused(entries: &[Entry]) -> String {
    refused_by(Unpack::new(), &tar(entries))
}

fn refused_by(rules: Unpack, archive: &[u8]) -> String {
    let error = Place::new(archive).unpack(rules).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Archive, "{error}");
    assert!(error.to_string().contains("archive.tgz") && !error.to_string().contains('\x1b'), "{error}");
    error.to_string()
}

#[test]
fn an_honest_archive_is_unpacked_plain_or_compressed() {
    let long = format!("pets/{}/{}.jpg", "folder".repeat(20), "name".repeat(30));
    let mut builder = tar::Builder::new(Vec::new());
    let mut append = |name: &str, body: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o4777);
        builder.append_data(&mut header, name, body).unwrap();
    };
    append("pets/a 1.jpg", b"a");
    append("pets/\u{e4}/b.jpg", &[7; 5000]);
    append(&long, b"long");
    append("pets/empty", b"");
    let plain = builder.into_inner().unwrap();
    // Two members of gzip, as parallel compressors write them, are one stream.
    let two = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
    for archive in [plain.clone(), gzip(&plain), two] {
        let place = Place::new(&archive);
        place.unpack(Unpack::new()).unwrap();
        assert_eq!(fs::read(place.set().join("pets/a 1.jpg")).unwrap(), b"a");
        assert_eq!(fs::read(place.set().join("pets/\u{e4}/b.jpg")).unwrap(), [7; 5000]);
        assert_eq!(fs::read(place.set().join(&long)).unwrap(), b"long");
        assert_eq!(fs::read(place.set().join("pets/empty")).unwrap(), b"");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = place.set().join("pets/a 1.jpg").metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7111, 0, "{mode:o}: neither setuid nor executable");
        }
        // A folder that holds everything becomes the folder itself, and one that is there stays unless it is to be replaced.
        place.unpack(Unpack::new().lone_folder(true)).unwrap();
        assert_eq!(names(&place.set()), ["pets"]);
        place.unpack(Unpack::new().lone_folder(true).replace(true)).unwrap();
        assert!(place.set().join("a 1.jpg").is_file());
    }
}

#[test]
fn the_system_tar_is_understood() {
    let place = Place::new(b"");
    let source = place.dir.path().join("data/made");
    fs::create_dir_all(source.join("pets/im ages")).unwrap();
    fs::write(source.join("pets/im ages/\u{e4}.jpg"), [1; 3000]).unwrap();
    fs::write(source.join(format!("pets/{}", "x".repeat(120))), "long").unwrap();
    for format in ["gnu", "pax"] {
        let made = std::process::Command::new("tar")
            .args(["czf".as_ref(), place.archive().as_os_str(), format!("--format={format}").as_ref()])
            .args(["-C".as_ref(), source.as_os_str(), "pets".as_ref()])
            .output();
        match made {
            Ok(made) if made.status.success() => {}
            Ok(made) => {
                let why = String::from_utf8_lossy(&made.stderr).replace('\n', " ");
                common::skip(format_args!("tar makes no {format} archive: {why}"));
                continue;
            }
            Err(e) => return common::skip(format_args!("there is no tar: {e}")),
        }
        let into = place.at(format);
        Unpack::new().lone_folder(true).run(&place.archive(), &into, &mut unwatched).unwrap();
        assert_eq!(names(&into), ["im ages".to_owned(), "x".repeat(120)], "{format}");
        assert_eq!(fs::read(into.join("im ages/\u{e4}.jpg")).unwrap(), [1; 3000]);
    }
}

#[test]
fn entries_that_lead_elsewhere_are_refused_by_name() {
    let good = || Entry::file("pets/a.jpg", "a");
    let evil = |name: &str| Entry::file(name, "evil");
    let link = |kind, to| Entry::special("pets/link", kind, to);
    for (what, entries, entry, why) in [
        ("up", vec![good(), evil("../neighbour")], "`../neighbour`", "leads out"),
        ("up from below", vec![good(), evil("pets/../../../neighbour")], "`pets/../../../neighbour`", "leads out"),
        ("a folder up", vec![Entry::folder("..")], "`..`", "leads out"),
        ("absolute", vec![good(), evil("/tmp/onecycle-evil")], "`/tmp/onecycle-evil`", "absolute"),
        ("symbolic link", vec![good(), link(b'2', "../..")], "`pets/link`", "a symbolic link"),
        ("link within", vec![good(), link(b'2', "a.jpg")], "`pets/link`", "a symbolic link"),
        ("through a link", vec![link(b'2', ".."), evil("pets/link/neighbour")], "`pets/link`", "a symbolic link"),
        (
            "link, then folder",
            vec![link(b'2', ".."), Entry::folder("pets/link").mode(0o777)],
            "`pets/link`",
            "a symbolic link",
        ),
        ("hard link", vec![good(), link(b'1', "../../neighbour")], "`pets/link`", "a hard link"),
        ("hard link within", vec![good(), link(b'1', "pets/a.jpg")], "`pets/link`", "a hard link"),
        ("character device", vec![Entry::special("pets/null", b'3', "")], "`pets/null`", "a device"),
        ("block device", vec![Entry::special("pets/sda", b'4', "")], "`pets/sda`", "a device"),
        ("pipe", vec![Entry::special("pets/pipe", b'6', "")], "`pets/pipe`", "a pipe"),
        ("sparse", vec![Entry::special("pets/sparse", b'S', "")], "`pets/sparse`", "sparse"),
        ("unknown", vec![Entry::special("pets/what", b'Z', "")], "`pets/what`", "of type 'Z'"),
        ("twice", vec![good(), evil("pets/./a.jpg")], "`pets/./a.jpg`", "an earlier entry"),
        ("file over folder", vec![good(), evil("pets")], "`pets`", "an earlier entry"),
        ("folder over file", vec![good(), Entry::folder("pets/a.jpg")], "`pets/a.jpg`", "which is a file"),
        ("below a file", vec![good(), evil("pets/a.jpg/b")], "`pets/a.jpg/b`", "which is a file"),
        ("nameless", vec![good(), evil(".")], "`.`", "without a name"),
        ("control characters", vec![evil("pets/\x1b[2J")], r"`pets/\u{1b}[2J`", "control"),
    ] {
        let told = refused(&entries);
        assert!(told.contains(entry) && told.contains(why), "{what}: {told}");
    }
    let told = refused(&[Entry::file(b"pets/caf\xe9.jpg", "a")]);
    assert!(told.contains("`pets/caf\u{fffd}.jpg`: its name is not Unicode"), "{told}");
    assert!(!Path::new("/tmp/onecycle-evil").exists());
}

#[test]
fn long_names_are_names_too() {
    // GNU's and POSIX's ways to give the next entry a name that no header has room for.
    let gnu = Entry { kind: b'L', ..Entry::file("././@LongLink", "../".repeat(50) + "neighbour\0") };
    let told = refused(&[gnu, Entry::file("harmless", "evil")]);
    assert!(told.contains("leads out"), "{told}");
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len()..).find(|n| n.to_string().len() + rest.len() == *n).unwrap();
        format!("{length}{rest}")
    };
    let pax = Entry { kind: b'x', ..Entry::file("x", record("path", "/tmp/onecycle-evil")) };
    let told = refused(&[pax, Entry::file("harmless", "evil")]);
    assert!(told.contains("absolute"), "{told}");
    let told = refused(&[Entry { kind: b'L', ..Entry::file("././@LongLink", "n".repeat(5000)) }, Entry::file("h", "")]);
    assert!(told.contains("too long"), "{told}");
    // A remark for the whole archive is neither a file nor a fault.
    let global = Entry { kind: b'g', ..Entry::file("pax_global_header", record("comment", "made by git")) };
    let place = Place::new(&tar(&[global, Entry::file("a", "a")]));
    place.unpack(Unpack::new()).unwrap();
    assert_eq!(names(&place.set()), ["a"]);
}

#[test]
fn growth_is_bounded() {
    let many: Vec<Entry> = (0..300).map(|n| Entry::file(format!("pets/{n}.jpg"), "a")).collect();
    let told = refused_by(Unpack::new().entries(300), &gzip(&tar(&many)));
    assert!(told.contains("more than 300 entries"), "with the folder there are 301: {told}");
    Place::new(&tar(&many)).unpack(Unpack::new().entries(301)).unwrap();
    // Folders that only names mention count too.
    let told = refused_by(Unpack::new().entries(30), &tar(&[Entry::file("d/".repeat(45) + "a", "a")]));
    assert!(told.contains("more than 30 entries"), "{told}");

    let told = refused_by(Unpack::new().bytes(1000), &tar(&[Entry::file("a", [0; 600]), Entry::file("b", [0; 600])]));
    assert!(told.contains("`b`: there are more than 1000 bytes"), "{told}");
    // Sizes that are claims, up to those that overflow.
    for size in [65 << 30, 1 << 62, u64::MAX] {
        refused(&[Entry::file("a", "a").size(size)]);
        refused(&[Entry::folder("a").size(size)]);
        refused(&[Entry { kind: b'L', ..Entry::file("long", "a").size(size) }]);
    }

    // 100 MiB of zeros from 100 KB: as a file, as a name, as an attribute, as the space behind the end.
    let zeros = vec![0; 100 << 20];
    let told = refused_by(Unpack::new(), &gzip(&tar(&[Entry::file("bomb", zeros.clone())])));
    assert!(told.contains("`bomb`: its bytes become more than 200 times as many"), "{told}");
    for kind in [b'L', b'K', b'x', b'g'] {
        let told = refused_by(Unpack::new(), &gzip(&tar(&[Entry { kind, ..Entry::file("bomb", zeros.clone()) }])));
        assert!(told.contains("more bytes than fit its headers"), "{}: {told}", char::from(kind));
    }
    let told = refused_by(Unpack::new(), &gzip(&[tar(&[Entry::file("a", "a")]), zeros].concat()));
    assert!(told.contains("times as many") || told.contains("more bytes"), "{told}");
}

#[test]
fn a_damaged_archive_leaves_nothing() {
    let plain =
        tar(&[Entry::folder("pets"), Entry::file("pets/a.jpg", [1; 2000]), Entry::file("pets/b.jpg", [2; 700])]);
    let packed = gzip(&plain);
    // A plain one may lose its last block of zeros, and a whole entry less is still a cut one.
    for length in (0..plain.len() - 1024).step_by(128).chain([plain.len() - 1024]) {
        refused_by(Unpack::new(), &plain[..length]);
    }
    for length in 0..packed.len() {
        refused_by(Unpack::new(), &packed[..length]);
    }
    // The checksum stands behind everything else.
    let mut wrong = packed.clone();
    let at = wrong.len() - 8;
    wrong[at] ^= 1;
    refused_by(Unpack::new(), &wrong);
    for (bytes, why) in [
        (&b"PK\x03\x04.................."[..], "a zip archive"),
        (b"<!DOCTYPE html><title>Please log in", "a page of text"),
        (b"hello", "neither a tar archive"),
        (&[7; 2000], "neither a tar archive"),
        (&tar(&[]), "nothing in it"),
    ] {
        let told = refused_by(Unpack::new(), bytes);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn whoever_watches_can_stop_it_and_what_was_killed_is_cleared_away() {
    let place = Place::new(&tar(&[Entry::file("a", [1; 3000]), Entry::file("b", "b")]));
    let stop = |step: &Step| match step {
        Step::Unpack { entries: 2, .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = Unpack::new().run(&place.archive(), &place.set(), &mut { stop }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(names(&place.at("data")), [".set.lock"]);
    fs::create_dir_all(place.at("data/.set.partial/half")).unwrap();
    place.unpack(Unpack::new()).unwrap();
    assert_eq!(names(&place.set()), ["a", "b"]);
    // A file that has the folder's name is somebody's.
    fs::write(place.at("data/file"), "mine").unwrap();
    for replace in [false, true] {
        let into = place.at("data/file");
        let error = Unpack::new().replace(replace).run(&place.archive(), &into, &mut unwatched).unwrap_err();
        assert_eq!((error.kind(), error.item()), (ErrorKind::Io, into.to_str()));
        assert_eq!(fs::read(&into).unwrap(), b"mine");
    }
}

/// Thousands of archives that are almost right. What comes of each is checked by [`Place::unpack`]: the folder is whole or not
/// there, and the neighbour is as he was.
#[test]
fn mutated_archives_do_no_harm() {
    const ROUNDS: u64 = 3000;
    let entries = [
        Entry::folder("pets"),
        Entry::file("pets/a.jpg", [1; 600]),
        Entry { kind: b'L', ..Entry::file("././@LongLink", "pets/".repeat(30) + "long.jpg\0") },
        Entry::file("pets/short", "b"),
        Entry { kind: b'x', ..Entry::file("x", "18 path=pets/c.jp\n") },
        Entry::file("pets/c", [3; 50]),
        Entry::file("neighbour", "d"),
    ];
    let plain = tar(&entries);
    let packed = gzip(&plain);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        // xorshift: the same archives every time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    // What breaks parsers and paths, rather than any byte.
    let bits: [&[u8]; 12] =
        [b"../", b"/", b"\0", b"\xff\xff\xff\xff", b"7777777", b"2", b"1", b"..", b"5", b"\x80\0\0\0", b"S", b"-1"];
    let (mut whole, mut refusals) = (0, 0);
    for round in 0..ROUNDS {
        let mut archive = if round % 5 == 0 { packed.clone() } else { plain.clone() };
        for _ in 0..1 + draw(4) {
            let at = draw(archive.len());
            match draw(3) {
                0 => archive[at] ^= 1 << draw(8),
                1 => {
                    let bit = bits[draw(bits.len())];
                    let end = (at + bit.len()).min(archive.len());
                    archive[at..end].copy_from_slice(&bit[..end - at]);
                }
                // Where names, sizes and types are.
                _ => {
                    let header = (at / 512) * 512;
                    let place = [0, 124, 156, 257, 345][draw(5)] + header;
                    let bit = bits[draw(bits.len())];
                    let end = (place + bit.len()).min(archive.len());
                    if place < end {
                        archive[place..end].copy_from_slice(&bit[..end - place]);
                    }
                }
            }
        }
        if round % 5 != 0 {
            // Three of four get right checksums again; otherwise nearly all would end there.
            if draw(4) > 0 {
                for block in archive.chunks_exact_mut(512).filter(|b| b[257..262] == *b"ustar") {
                    checksum(block);
                }
            }
            if draw(10) == 0 {
                archive.truncate(draw(archive.len()));
            }
        }
        match Place::new(&archive).unpack(Unpack::new().bytes(1 << 20)) {
            Ok(()) => whole += 1,
            Err(error) => {
                refusals += 1;
                let expected = [ErrorKind::Archive, ErrorKind::Io];
                assert!(expected.contains(&error.kind()), "round {round}: {error}");
            }
        }
    }
    println!("{ROUNDS} mutated archives: {whole} unpacked, {refusals} refused");
    assert!(
        whole > ROUNDS / 20 && refusals > ROUNDS / 20,
        "{whole} unpacked, {refusals} refused: is the search one-sided?"
    );
}

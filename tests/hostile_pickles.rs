//! Checkpoints that mean harm, and damaged ones by the thousand: nothing is ever executed, and each ends within a second and little
//! memory in an error that names the file, or in tensors.
//!
//! The instructions are written by hand, since no honest program writes them. `ONECYCLE_FUZZ_CASES=1000000 cargo test --release --test
//! hostile_pickles` draws as many damaged files.

mod common;
#[path = "common/fuzzing.rs"]
mod fuzzing;

use common::pictures::crc32;
use fuzzing::{cases, damage, peak_of, spoil};
use onecycle::nn::pth;
use onecycle::{Error, ErrorKind};
use proptest::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a hostile file may cost.
const MEMORY: usize = 256 << 20;
const TIME: Duration = Duration::from_secs(1);

/// A zip as torch writes it: stored entries, then the directory.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in entries {
        let at = file.len() as u32;
        let (crc, len) = (crc32(data), data.len() as u32);
        let common = |out: &mut Vec<u8>| {
            out.extend([0, 0, 0, 8, 0, 0, 0, 0, 0, 0]); // version, flags, method 0, time, date
            out.extend([crc, len, len].into_iter().flat_map(u32::to_le_bytes));
            out.extend((name.len() as u16).to_le_bytes());
        };
        file.extend(b"PK\x03\x04");
        common(&mut file);
        file.extend([0, 0]);
        file.extend(name.as_bytes());
        file.extend(*data);
        directory.extend(b"PK\x01\x02\0\0");
        common(&mut directory);
        directory.extend([0; 12]); // extra, comment, disk, attributes
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (file.len() as u32, entries.len() as u16);
    let size = directory.len() as u32;
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([count, count].into_iter().flat_map(u16::to_le_bytes));
    file.extend([size, start].into_iter().flat_map(u32::to_le_bytes));
    file.extend([0, 0]);
    file
}

/// A checkpoint with this description and one storage of six floats.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let floats: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    zip(&[("m/data.pkl", pickle), ("m/byteorder", b"little"), ("m/data/0", &floats), ("m/version", b"3\n")])
}

fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn int(n: i64) -> Vec<u8> {
    [b"\x8a\x08", &n.to_le_bytes()[..]].concat()
}

/// A tuple of what these instructions make.
fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().map(|&n| int(n)).collect::<Vec<_>>())
}

fn storage(kind: &str, key: &str, len: i64) -> Vec<u8> {
    let kind = format!("ctorch\n{kind}\n").into_bytes();
    [tuple(&[text("storage"), kind, text(key), text("cpu"), int(len)]), b"Q".to_vec()].concat()
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())`.
fn tensor(storage: Vec<u8>, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = tuple(&[storage, int(offset), ints(size), ints(stride), b"\x89".to_vec(), hooks]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(), arguments, b"R".to_vec()].concat()
}

/// A dictionary with one entry, `w`.
fn state(value: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02}".to_vec(), text("w"), value, b"s.".to_vec()].concat()
}

fn good() -> Vec<u8> {
    state(tensor(storage("FloatStorage", "0", 6), 0, &[2, 3], &[3, 1]))
}

fn read(dir: &Path, bytes: &[u8]) -> onecycle::Result<pth::Checkpoint> {
    let path = dir.join("hostile ü.pth");
    std::fs::write(&path, bytes).unwrap();
    let once = || {
        let began = Instant::now();
        (peak_of(|| pth::read(&path)), began.elapsed())
    };
    // A machine with other work to do may hold up one reading, and hardly three.
    let mut tries = (0..3).map(|_| once());
    let first = tries.next().unwrap();
    let ((result, peak), time) = if first.1 < TIME { first } else { tries.min_by_key(|(_, time)| *time).unwrap() };
    assert!(time < TIME, "{time:?}: {result:?}");
    assert!(peak < MEMORY, "{peak} bytes: {result:?}");
    if let Err(e) = &result {
        let text = e.to_string();
        assert!(text.contains("hostile ü.pth") && !e.advice().is_empty() && text.len() < 2000, "{text}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    result
}

fn refused(dir: &Path, what: &str, bytes: &[u8]) -> Error {
    let error = read(dir, bytes).map(|found| panic!("{what}: {found:?}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format, "{what}: {error}");
    println!("{what}: {error}");
    error
}

#[test]
fn the_files_of_these_tests_are_checkpoints_before_they_are_spoiled() {
    let dir = tempfile::tempdir().unwrap();
    let found = read(dir.path(), &archive(&good())).unwrap();
    assert_eq!(found.tensors[0].0, "w");
    assert_eq!(found.tensors[0].1.to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
}

/// Scripts keep a model's tensors under many keys; where there is a moving average too, it is the one that they measured.
#[test]
fn the_model_is_found_under_its_key() {
    let dir = tempfile::tempdir().unwrap();
    // The tensor `w` begins with the given number.
    let model = |first: i64| {
        [b"}".to_vec(), text("w"), tensor(storage("FloatStorage", "0", 6), first, &[1], &[1]), b"s".to_vec()].concat()
    };
    let found = |entries: &[(&str, Vec<u8>)]| {
        let items: Vec<u8> =
            entries.iter().flat_map(|(key, value)| [text(key), value.clone(), b"s".to_vec()].concat()).collect();
        read(dir.path(), &archive(&[b"\x80\x02}".to_vec(), items, b".".to_vec()].concat()))
    };
    let first = |entries: &[(&str, Vec<u8>)]| found(entries).unwrap().tensors[0].1.to_vec::<f32>().unwrap()[0];
    for key in ["state_dict", "model_state_dict", "model", "net", "weights"] {
        assert_eq!(first(&[("epoch", int(3)), (key, model(2)), ("optimizer", b"}".to_vec())]), 2.0, "{key}");
    }
    assert_eq!(first(&[("state_dict", model(1)), ("state_dict_ema", model(4))]), 4.0);
    assert_eq!(first(&[("model_ema", model(5)), ("model", model(1))]), 5.0);
    assert_eq!(first(&[("teacher", model(1)), ("model", model(3))]), 3.0);
    let error = found(&[("student", model(1)), ("teacher", model(3))]).unwrap_err();
    assert!(error.message().contains("several dictionaries of tensors, under \"student\", \"teacher\""), "{error}");
}

/// Whatever they call: the sentinel that they would make is not there afterwards, and the error says what they asked for.
#[test]
fn nothing_is_executed() {
    let dir = tempfile::tempdir().unwrap();
    let sentinel = dir.path().join("sentinel");
    let command = format!("touch '{}'", sentinel.display());
    let python = format!("open({:?}, 'w')", sentinel.display().to_string());
    let call = |module: &str, name: &str, argument: &str| {
        [format!("c{module}\n{name}\n").into_bytes(), tuple(&[text(argument)]), b"R".to_vec()].concat()
    };
    let top = |value: Vec<u8>| [b"\x80\x02".to_vec(), value, b".".to_vec()].concat();
    let stack_global = |module: &str, name: &str| [text(module), text(name), b"\x93".to_vec()].concat();
    let mut asked = vec![];
    for (module, name, argument) in [
        ("os", "system", &command),
        ("posix", "system", &command),
        ("nt", "system", &command),
        ("subprocess", "Popen", &command),
        ("builtins", "eval", &python),
        ("builtins", "exec", &python),
        ("__builtin__", "eval", &python),
        ("builtins", "getattr", &python),
        ("builtins", "__import__", &"os".to_string()),
        ("torch", "load", &command),
        ("torch.hub", "load", &command),
        ("torch.serialization", "load", &command),
        ("torch.utils.cpp_extension", "load_inline", &command),
        ("numpy", "load", &command),
        ("numpy.testing._private.utils", "runstring", &python),
        ("collections", "namedtuple", &python),
        ("functools", "partial", &python),
        ("operator", "attrgetter", &python),
        ("runpy", "run_path", &python),
        ("webbrowser", "open", &command),
        ("torch", "FloatStorage.__init__.__globals__", &python),
        ("collections", "OrderedDict.__reduce__", &python),
        ("torch._utils", "_rebuild_tensor_v2.__globals__", &python),
        ("OS", "SYSTEM", &command),
        ("", "", &command),
    ] {
        let named = format!("`{module}.{name}`");
        asked.push((named.clone(), top(call(module, name, argument))));
        asked.push((named.clone(), state(call(module, name, argument))));
        // By protocol 4, and by names that a known class is put before.
        asked
            .push((named.clone(), top([stack_global(module, name), tuple(&[text(argument)]), b"R".to_vec()].concat())));
        // As an argument, as attributes, as an item after good ones.
        asked.push((
            named.clone(),
            top([b"ccollections\nOrderedDict\n".to_vec(), tuple(&[call(module, name, argument)]), b"R".to_vec()]
                .concat()),
        ));
        asked.push((
            named.clone(),
            top([b"ccollections\nOrderedDict\n)R}".to_vec(), text("x"), call(module, name, argument), b"sb".to_vec()]
                .concat()),
        ));
        let good = good();
        asked.push((named, [&good[..good.len() - 1], &text("v"), &call(module, name, argument), b"s."].concat()));
    }
    for (named, pickle) in &asked {
        let error = refused(dir.path(), named, &archive(pickle));
        // The remedy is for honest files that hold too much; what is said first is the name.
        assert!(error.message().contains(named.as_str()), "{named}: {error}");
    }
    // The other ways to a call, none of which is known here.
    let system = text(&command);
    let ways: [(&str, Vec<u8>); 9] = [
        ("INST", [b"(".to_vec(), system.clone(), b"ios\nsystem\n.".to_vec()].concat()),
        ("OBJ", [b"(ccollections\nOrderedDict\n".to_vec(), system.clone(), b"o.".to_vec()].concat()),
        ("NEWOBJ_EX", [b"ccollections\nOrderedDict\n)}\x92.".to_vec()].concat()),
        ("EXT", b"\x82\x01.".to_vec()),
        ("EXT", b"\x84\x01\0\0\0.".to_vec()),
        ("PERSID", b"P0\n.".to_vec()),
        ("NEXT_BUFFER", b"\x97.".to_vec()),
        ("calls what is no name", [text("os.system"), tuple(std::slice::from_ref(&system)), b"R.".to_vec()].concat()),
        ("calls what is no name", [b"}".to_vec(), tuple(&[system]), b"R.".to_vec()].concat()),
    ];
    for (what, pickle) in ways {
        let error = refused(dir.path(), what, &archive(&[b"\x80\x02", &pickle[..]].concat()));
        assert!(error.message().contains(what), "{what}: {error}");
    }
    // In the older container each of its pickles could ask.
    let magic = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    let bomb = top(call("os", "system", &command));
    for before in [
        &b""[..],
        magic,
        &[magic, &b"\x80\x02M\xe9\x03."[..]].concat(),
        &[magic, &b"\x80\x02M\xe9\x03.\x80\x02}."[..]].concat(),
    ] {
        let error = refused(dir.path(), "stacked", &[before, &bomb].concat());
        assert!(error.message().contains("`os.system`"), "{error}");
    }
    assert!(!sentinel.exists(), "something was executed");
}

#[test]
fn lies_about_storages_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let float = || storage("FloatStorage", "0", 6);
    let max = i64::MAX;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a row too many", tensor(float(), 0, &[3, 3], &[3, 1])),
        ("an offset", tensor(float(), 1, &[2, 3], &[3, 1])),
        ("an offset at the end", tensor(float(), 6, &[1], &[1])),
        ("an offset beyond", tensor(float(), 7, &[0], &[1])),
        ("a stride", tensor(float(), 0, &[2, 3], &[4, 1])),
        ("negative offset", tensor(float(), -1, &[1], &[1])),
        ("negative size", tensor(float(), 0, &[-2, -3], &[3, 1])),
        ("negative stride", tensor(float(), 5, &[6], &[-1])),
        ("sizes that overflow", tensor(float(), 0, &[1 << 32, 1 << 32], &[0, 0])),
        ("sizes that overflow to few", tensor(float(), 0, &[max, 2, 3], &[0, 3, 1])),
        ("zero times overflow", tensor(float(), 0, &[1 << 40, 0, 1 << 40, 1], &[0, 0, 0, 0])),
        ("strides that overflow", tensor(float(), 0, &[3, 3], &[max, max])),
        ("offset that overflows", tensor(float(), max, &[2], &[max])),
        ("a huge expansion", tensor(float(), 0, &[1 << 40], &[0])),
        ("a large expansion", tensor(float(), 0, &[1 << 22], &[0])),
        ("fewer strides than sizes", tensor(float(), 0, &[2, 3], &[1])),
        ("many axes", tensor(float(), 0, &[1; 65], &[1; 65])),
        ("more elements than bytes", tensor(storage("FloatStorage", "0", 7), 0, &[7], &[1])),
        ("fewer elements than bytes", tensor(storage("FloatStorage", "0", 5), 0, &[5], &[1])),
        ("another type", tensor(storage("DoubleStorage", "0", 6), 0, &[6], &[1])),
        ("a huge storage", tensor(storage("DoubleStorage", "0", max), 0, &[1], &[1])),
        ("negative elements", tensor(storage("FloatStorage", "0", -6), 0, &[1], &[1])),
        ("no such storage", tensor(storage("FloatStorage", "1", 6), 0, &[6], &[1])),
        ("a path as key", tensor(storage("FloatStorage", "../../../etc/passwd", 6), 0, &[6], &[1])),
        ("an absolute path as key", tensor(storage("FloatStorage", "/etc/passwd", 6), 0, &[6], &[1])),
        ("a huge key", tensor(storage("FloatStorage", &"0".repeat(10_000), 6), 0, &[6], &[1])),
        (
            "no type",
            tensor(
                [tuple(&[text("storage"), text("FloatStorage"), text("0"), text("cpu"), int(6)]), b"Q".to_vec()]
                    .concat(),
                0,
                &[6],
                &[1],
            ),
        ),
        ("another persistent id", tensor([tuple(&[text("module"), text("x")]), b"Q".to_vec()].concat(), 0, &[6], &[1])),
        ("a text as storage", tensor(text("0"), 0, &[6], &[1])),
        (
            "a float as size",
            [
                b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
                tuple(&[
                    float(),
                    int(0),
                    tuple(&[b"G@\x18\0\0\0\0\0\0".to_vec()]),
                    ints(&[1]),
                    b"\x89".to_vec(),
                    b"}".to_vec(),
                ]),
                b"R".to_vec(),
            ]
            .concat(),
        ),
        (
            "a size of 16 bytes",
            [
                b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
                tuple(&[
                    float(),
                    int(0),
                    tuple(&[[&b"\x8a\x10"[..], &[0x7f; 16]].concat()]),
                    ints(&[1]),
                    b"\x89".to_vec(),
                    b"}".to_vec(),
                ]),
                b"R".to_vec(),
            ]
            .concat(),
        ),
        (
            "a view beyond",
            tensor(
                [
                    tuple(&[
                        text("storage"),
                        b"ctorch\nFloatStorage\n".to_vec(),
                        text("0"),
                        text("cpu"),
                        int(6),
                        tuple(&[text("v"), int(4), int(3)]),
                    ]),
                    b"Q".to_vec(),
                ]
                .concat(),
                0,
                &[1],
                &[1],
            ),
        ),
        (
            "two descriptions",
            [tuple(&[tensor(float(), 0, &[6], &[1]), tensor(storage("IntStorage", "0", 6), 0, &[6], &[1])])].concat(),
        ),
    ];
    for (what, value) in cases {
        refused(dir.path(), what, &archive(&state(value)));
    }
    // A view whose numbers count negated, as PyTorch marks it: its storage alone would be the wrong weights.
    let whole = tensor(float(), 0, &[6], &[1]);
    let negated = [&whole[..whole.len() - 2], b"}", &text("neg"), b"\x88stR"].concat();
    assert!(refused(dir.path(), "negated", &archive(&state(negated))).message().contains("negated"));
}

#[test]
fn bombs_are_duds() {
    let dir = tempfile::tempdir().unwrap();
    let top = |parts: &[&[u8]]| archive(&[b"\x80\x02", &parts.concat()[..], b"."].concat());
    let many = |what: &[u8], n: usize| what.repeat(n);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("lists in lists, by marks", top(&[&many(b"(", 100_000), &many(b"l", 1)])),
        ("lists in lists", top(&[&many(b"]", 900_000), &many(b"a", 899_999)])),
        ("tuples in tuples", top(&[b")", &many(b"\x85", 900_000)])),
        ("dictionaries in dictionaries", top(&[&many(b"}K\x01", 400_000), b"N", &many(b"s", 400_000)])),
        ("a million marks", top(&[&many(b"(", 1_000_000)])),
        ("more objects than anybody needs", top(&[&many(b"N", 3_000_000)])),
        ("objects that are thrown away", top(&[&many(b"N0", 3_000_000)])),
        ("one object many times", top(&[b"N", &many(b"2", 6_000_000)])),
        (
            "a memo with large numbers",
            top(&[
                b"N",
                &(0..1_200_000u32)
                    .flat_map(|i| [&b"r"[..], &(u32::MAX - i).to_le_bytes()].concat())
                    .collect::<Vec<u8>>(),
            ]),
        ),
        // Each list holds the one before ten times: a billion laughs, if anybody laughed.
        ("lists of lists, shared", top(&[&many(b"](22222222e2", 1), &many(b"2222222222\x87\x87\x87", 1000)])),
        ("a list that is its own item", top(&[b"]q\0h\0a"])),
        ("a dictionary that is its own state_dict", top(&[b"}q\0", &text("state_dict"), b"h\0s"])),
        ("a text of 4 GiB", top(&[b"X\xff\xff\xff\xff", b"abc"])),
        ("bytes of 2^63", top(&[b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"abc"])),
        ("text of 20 MB", top(&[&text(&"a".repeat(20 << 20))])),
        ("a name without end", top(&[b"c", &many(b"a", 1_000_000)])),
        ("a number of 255 bytes", top(&[b"\x8a\xff", &[1; 255]])),
        ("empty", archive(b"")),
        ("no end", archive(b"\x80\x02}")),
        ("nothing to end with", archive(b"\x80\x02.")),
        ("protocol 9", archive(b"\x80\x09}.")),
        ("takes what isn't there", top(&[b"sss"])),
        ("takes across a mark", top(&[b"}NN(s"])),
        ("marks without things", top(&[b"ttt"])),
        ("recalls nothing", top(&[b"h\x05"])),
        ("appends to a dictionary", top(&[b"}Na"])),
        ("items of a list", top(&[b"]NNs"])),
        ("an odd dictionary", top(&[b"}(NNNu"])),
        ("attributes of a number", top(&[b"K\x01}b"])),
        ("a dictionary of no pairs", top(&[b"ccollections\nOrderedDict\n]N\x61\x85R"])),
        ("text that is none", top(&[b"X\x02\0\0\0\xff\xfe"])),
        (
            "a state dict of numbers as names",
            archive(
                &[b"\x80\x02}K\x01".to_vec(), tensor(storage("FloatStorage", "0", 6), 0, &[6], &[1]), b"s.".to_vec()]
                    .concat(),
            ),
        ),
    ];
    for (what, bytes) in cases {
        refused(dir.path(), what, &bytes);
    }
    // One storage of 1 MB, seen thousands of times: the sum is looked at before any memory is asked for.
    let numbers = vec![0u8; 1 << 20];
    let view = tensor(storage("ByteStorage", "0", 1 << 20), 0, &[1 << 20], &[1]);
    let mut pickle = [b"\x80\x02}(".to_vec(), text("0"), view, b"q\0".to_vec()].concat();
    (1..5000).for_each(|i| pickle.extend([text(&i.to_string()), b"h\0".to_vec()].concat()));
    pickle.extend(b"u.");
    refused(dir.path(), "one storage many times", &zip(&[("m/data.pkl", &pickle), ("m/data/0", &numbers)]));
}

/// What is written once and referred to a hundred thousand times: work and memory of the square of the file's bytes, if each reference
/// were followed. Some of these are harmless then and may be read; `read` measures.
#[test]
fn repetition_costs_no_more_than_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let top = |parts: &[&[u8]]| archive(&[b"\x80\x02", &parts.concat()[..], b"."].concat());
    let n = 150_000;
    // A dictionary of many texts, and a list of many references to what memo 1 holds.
    let texts: Vec<u8> = (0..n).flat_map(|i| [text(&format!("{i:x}")), b"N".to_vec()].concat()).collect();
    let large = [b"}(", &texts[..], b"uq\x01"].concat();
    let list = [b"](".to_vec(), b"h\x01".repeat(n), b"e".to_vec()].concat();
    let fewer = [b"](".to_vec(), b"h\x01".repeat(60_000), b"e".to_vec()].concat();
    let empty = tensor(storage("FloatStorage", "0", 6), 0, &[0], &[1]);
    let good = [
        text("model"),
        b"}".to_vec(),
        text("w"),
        tensor(storage("FloatStorage", "0", 6), 0, &[6], &[1]),
        b"ss".to_vec(),
    ]
    .concat();
    let optimizer = |before: &[u8], state: &[u8], hypers: &[u8]| {
        top(&[before, b"0}", &good, &text("opt"), b"}(", &text("state"), state, &text("hypers"), hypers, b"us"])
    };
    let long = [b"}", &text(&"k".repeat(1 << 20))[..], b"K\x01sq\x01"].concat();
    let empties = [b"}", &text("grad_avg")[..], &empty, b"sq\x01"].concat();
    let small: Vec<u8> = (0..300u32).flat_map(|i| [text(&i.to_string()), b"K\x01".to_vec()].concat()).collect();
    let small = [b"}(", &small[..], b"uq\x01"].concat();
    let sizes = [ints(&[1; 64]), b"q\x02".to_vec()].concat();
    let axes = tuple(&[
        storage("FloatStorage", "0", 6),
        int(0),
        b"h\x02".to_vec(),
        b"h\x02".to_vec(),
        b"\x89".to_vec(),
        b"}".to_vec(),
    ]);
    let items = [b"}(", &texts[..], &text("items"), b"]uq\x01"].concat();
    let numbered =
        |value: &[u8]| -> Vec<u8> { (0..n).flat_map(|i| [&text(&format!("{i:x}"))[..], value].concat()).collect() };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("one dictionary under many keys", top(&[&large, b"0}(", &numbered(b"h\x01"), b"u"])),
        ("an optimizer of one large state", optimizer(&large, &list, b"]")),
        ("an optimizer of one large group", optimizer(&large, b"]", &list)),
        ("an optimizer of small states", optimizer(&small, &list, &list)),
        ("an optimizer with a long name", optimizer(&long, &fewer, &fewer)),
        ("an optimizer of empty tensors", optimizer(&empties, &fewer, b"]")),
        ("a model of empty tensors", top(&[&empty, b"q\x010}(", &numbered(b"h\x01"), b"u"])),
        (
            "tensors of many axes",
            top(&[
                &sizes,
                b"0",
                &axes,
                b"q\x030ctorch._utils\n_rebuild_tensor_v2\nq\x04",
                &b"h\x04h\x03R".repeat(1_000_000),
            ]),
        ),
        ("a list built again and again", top(&[&items, b"0cfastcore.foundation\nL\n)R", &b"h\x01b".repeat(600_000)])),
        (
            "many storages",
            top(&[&(0..100_000).flat_map(|i| storage("FloatStorage", &format!("{i:x}"), 0)).collect::<Vec<u8>>()]),
        ),
        ("many texts", top(&[&b"\x8c\x01a".repeat(1_000_000)])),
        ("many dictionaries", top(&[&b"}NNs".repeat(300_000)])),
        ("many lists", top(&[&b"]Na".repeat(500_000)])),
    ];
    for (what, bytes) in cases {
        println!("{what}: {:?}", read(dir.path(), &bytes).map(|c| c.tensors.len()).map_err(|e| e.to_string()));
    }
    // One byte, seen as a tensor of 64 axes as large as a file may have.
    let bytes = vec![7u8; 1 << 20];
    let wide = tensor(storage("ByteStorage", "0", 1 << 20), 0, &[&[8 << 20][..], &[1; 63]].concat(), &[0; 64]);
    let found = read(dir.path(), &zip(&[("m/data.pkl", &state(wide)), ("m/data/0", &bytes)])).unwrap();
    assert_eq!(found.tensors[0].1.numel(), 8 << 20);
    // The older container: its list of storages against the order in which they were met, and four pickles instead of one.
    let (magic, protocol) = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02M\xe9\x03.");
    let met: Vec<u8> =
        (0..100_000).flat_map(|i| [storage("FloatStorage", &format!("{i:x}"), 0), b"0".to_vec()].concat()).collect();
    let keys: Vec<u8> = (0..100_000).rev().flat_map(|i| text(&format!("{i:x}"))).collect();
    let object = [b"\x80\x02", &met[..], b"}."].concat();
    let file = [&magic[..], protocol, b"\x80\x02}.", &object, b"\x80\x02](", &keys, b"e.", &vec![0; 800_000]].concat();
    println!("many storages of the older container: {:?}", read(dir.path(), &file).map_err(|e| e.to_string()));
    let nothings = [b"\x80\x02", &b"N".repeat(1_000_000)[..], b"}."].concat();
    refused(
        dir.path(),
        "large pickles one after the other",
        &[&magic[..], protocol, &nothings, &nothings, &nothings].concat(),
    );
    // A directory of a great many entries.
    let names: Vec<String> = (0..400_000).map(|i| format!("m/{i:x}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let _ = read(dir.path(), &zip(&entries));
}

#[test]
fn a_file_costs_its_tensors_and_one_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (count, bytes) = (6, 2 << 20);
    let storages: Vec<(String, Vec<u8>)> = (0..count).map(|i| (format!("m/data/{i}"), vec![i as u8; bytes])).collect();
    let mut pickle = b"\x80\x02}".to_vec();
    for i in 0..count {
        let n = bytes as i64 / 4;
        let weight = tensor(storage("FloatStorage", &i.to_string(), n), 0, &[n / 64, 4, 4, 4], &[64, 16, 4, 1]);
        pickle.extend([text(&format!("w{i}")), weight, b"s".to_vec()].concat());
    }
    pickle.push(b'.');
    let mut entries: Vec<(&str, &[u8])> = vec![("m/data.pkl", &pickle)];
    entries.extend(storages.iter().map(|(name, data)| (name.as_str(), &data[..])));
    let path = dir.path().join("large.pth");
    std::fs::write(&path, zip(&entries)).unwrap();
    let (found, peak) = peak_of(|| pth::read(&path).unwrap());
    assert_eq!(found.tensors.len(), count);
    assert!(peak < (count + 1) * bytes + (1 << 20), "{peak} bytes for {} of tensors", count * bytes);
}

#[test]
fn archives_that_lie_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = good();
    let floats = [0u8; 24];
    let whole = archive(&good);
    let directory = whole.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = whole.len() - 22;
    let changed = |at: usize, bytes: &[u8]| {
        let mut all = whole.clone();
        all[at..at + bytes.len()].copy_from_slice(bytes);
        all
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("an entry twice", zip(&[("m/data.pkl", &good), ("m/data.pkl", &good), ("m/data/0", &floats)])),
        ("a storage twice", zip(&[("m/data.pkl", &good), ("m/data/0", &floats), ("m/data/0", &[1; 24])])),
        ("the description elsewhere", zip(&[("a/x", b"x"), ("m/data.pkl", &good), ("m/data/0", &floats)])),
        ("names that are paths", zip(&[("../../m/data.pkl", &good), ("../../m/data/0", &floats)])),
        ("no entries", zip(&[])),
        ("big-endian", zip(&[("m/data.pkl", &good), ("m/byteorder", b"big"), ("m/data/0", &floats)])),
        ("a checksum", changed(directory + 16, &[1, 2, 3, 4])),
        ("compressed", changed(directory + 10, &[8, 0])),
        ("encrypted", changed(directory + 8, &[1, 8])),
        ("a length", changed(directory + 20, &[0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f])),
        ("a place", changed(directory + 42, &[5, 0, 0, 0])),
        ("a place beyond", changed(directory + 42, &[0xfe, 0xff, 0xff, 0xff])),
        ("a place of 64 bits that isn't there", changed(directory + 42, &[0xff; 4])),
        ("too many entries", changed(end + 8, &[0xfe, 0xff, 0xfe, 0xff])),
        ("zip64 without it", changed(end + 8, &[0xff; 4])),
        ("a directory that is huge", changed(end + 12, &[0xfe, 0xff, 0xff, 0x7f])),
        ("a directory beyond", changed(end + 16, &[0xfe, 0xff, 0xff, 0xff])),
        ("another disk", changed(end + 4, &[1, 0])),
        ("only a beginning", b"PK\x03\x04".to_vec()),
        ("web page", b"<!DOCTYPE html><html>".to_vec()),
        ("nothing", vec![]),
    ];
    for (what, bytes) in cases {
        refused(dir.path(), what, &bytes);
    }
    // Entries over each other: each is small, their sum is not.
    let big = vec![b'N'; 1 << 20];
    let mut bomb = zip(&[("m/data.pkl", &good), ("m/data/0", &floats), ("m/a", &big), ("m/b", &big)]);
    let names: Vec<usize> = bomb.windows(4).enumerate().filter(|(_, w)| w == b"PK\x01\x02").map(|(i, _)| i).collect();
    let place: [u8; 4] = bomb[names[2] + 42..names[2] + 46].try_into().unwrap();
    bomb[names[3] + 42..names[3] + 46].copy_from_slice(&place);
    assert!(refused(dir.path(), "overlap", &bomb).message().contains("over each other"));
    let tar = [b"sys_info\0".to_vec(), vec![0; 248], b"ustar".to_vec(), vec![0; 300]].concat();
    assert!(refused(dir.path(), "tar", &tar).message().contains("oldest container"));
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec![archive(&good())];
    files.extend(
        ["ckpt_zip.pth", "ckpt_legacy.pth"]
            .iter()
            .filter_map(|name| common::fixture(&format!("training/{name}")).map(|path| std::fs::read(path).unwrap())),
    );
    for file in files {
        for length in 0..file.len() {
            assert_eq!(read(dir.path(), &file[..length]).expect_err("cut").kind(), ErrorKind::Format, "at {length}");
        }
    }
}

/// The checksums of a zip's stored entries made right again: a reader that stops at the first wrong one would never see the damage.
fn mend(file: &mut [u8]) {
    let directories: Vec<usize> =
        file.windows(4).enumerate().filter(|(_, w)| w == b"PK\x01\x02").map(|(i, _)| i).collect();
    for at in directories {
        let number = |at: usize| file.get(at..at + 4).map(|b| u32::from_le_bytes(b.try_into().unwrap()) as usize);
        let Some((len, local)) = number(at + 20).zip(number(at + 42)) else { continue };
        let Some(head) = local.checked_add(30).and_then(|end| file.get(local..end)) else { continue };
        let skip = |i: usize| usize::from(u16::from_le_bytes([head[i], head[i + 1]]));
        let from = local + 30 + skip(26) + skip(28);
        if let Some(data) = from.checked_add(len).and_then(|to| file.get(from..to)) {
            let crc = crc32(data).to_le_bytes();
            file[at + 16..at + 20].copy_from_slice(&crc);
        }
    }
}

#[test]
fn damaged_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut corpus = vec![archive(&good())];
    let names = ["training/ckpt_zip_param.pth", "training/ckpt_legacy_param.pth", "training/ckpt_learner_with_opt.pth"];
    let more = ["checkpoints/protocol4.pth", "checkpoints/wrapped_stacked.pth"];
    let recorded = names.iter().chain(&more).filter_map(|name| common::fixture(name));
    corpus.extend(recorded.map(|path| std::fs::read(path).unwrap()));
    let strategy = (0..corpus.len(), prop::collection::vec(damage(), 1..5), any::<bool>());
    cases(3000, strategy, |(which, all, mended)| {
        let mut bytes = corpus[which].clone();
        all.iter().for_each(|damage| spoil(&mut bytes, damage));
        if mended {
            mend(&mut bytes);
        }
        if let Ok(found) = read(dir.path(), &bytes) {
            let total: usize = found.tensors.iter().map(|(_, t)| t.numel()).sum();
            prop_assert!(total <= 8 * bytes.len() + (1 << 20));
        }
        Ok(())
    });
}

#[test]
fn random_instructions() {
    let dir = tempfile::tempdir().unwrap();
    // Pieces that do something more often than single bytes do.
    let piece = prop_oneof![
        3 => Just(good()[2..good().len() - 1].to_vec()),
        2 => Just(tensor(storage("FloatStorage", "0", 6), 0, &[6], &[1])),
        2 => Just(storage("FloatStorage", "0", 6)),
        2 => Just(b"ccollections\nOrderedDict\n".to_vec()),
        1 => Just(b"ctorch._utils\n_rebuild_parameter\n".to_vec()),
        1 => Just(b"cfastcore.foundation\nL\n".to_vec()),
        1 => Just(b"cnumpy\ndtype\n".to_vec()),
        1 => Just(b"cnumpy.core.multiarray\nscalar\n".to_vec()),
        2 => Just(text("w")),
        2 => any::<i64>().prop_map(int),
        6 => prop::sample::select(b"()]}tNRbQsuae2q0h\x85\x86\x87\x81\x93\x94".to_vec()).prop_map(|op| vec![op]),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    cases(3000, prop::collection::vec(piece, 0..30), |pieces| {
        let _ = read(dir.path(), &archive(&[b"\x80\x02".to_vec(), pieces.concat(), b".".to_vec()].concat()));
        Ok(())
    });
}

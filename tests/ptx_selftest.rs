//! Whether the emulator's primitives are a GPU's: each by itself, see `src/device/cuda/selftest.rs`.
//!
//! On a machine with a GPU its outputs are compared with the emulator's, and with `ONECYCLE_RECORD=DIR` they are written there; put
//! into `tests/fixtures/ptx/` they are what the emulator has to reproduce from then on, on machines without a GPU too.

mod common;

use common::emulated::{self, Mode};
use onecycle::Device;
use onecycle::device::cuda::Gpu;
use onecycle::device::cuda::selftest::{BLANK, Case, cases};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where recordings lie.
const FOLDER: &str = "ptx";

fn gpu(device: Device) -> Gpu {
    match device {
        Device::Cuda(gpu) => gpu,
        other => panic!("{other} is no GPU"),
    }
}

fn run(case: &Case, device: Device) -> Vec<u8> {
    let out = case.run(gpu(device)).unwrap_or_else(|e| panic!("{} on {device}: {e}", case.name));
    // A random word is the blank one only by a chance that these inputs don't have.
    let blank = out.chunks(4).position(|word| word.iter().all(|b| *b == BLANK));
    assert_eq!(blank, None, "{} on {device}: nothing wrote this word", case.name);
    out
}

fn file(case: &Case) -> String {
    format!("{}.bin", case.name)
}

#[test]
fn emulator_does_what_a_gpu_has_done() {
    let (mut unverified, mut faults) = (Vec::new(), Vec::new());
    for case in cases() {
        let mut first: Option<Vec<u8>> = None;
        for mode in Mode::ALL {
            let Some(device) = emulated::device(mode) else { return };
            let out = run(&case, device);
            let same = first.get_or_insert_with(|| out.clone()) == &out;
            assert!(same, "{}: other bits in {mode:?}", case.name);
        }
        match common::recording(&format!("{FOLDER}/{}", file(&case))) {
            Some(path) => {
                let difference = case.difference(&first.unwrap(), &std::fs::read(path).unwrap());
                faults.extend(difference.map(|d| format!("{} isn't what a GPU does: {d}", case.name)));
            }
            None => unverified.push(case.name),
        }
    }
    if !unverified.is_empty() {
        common::skip(format_args!(
            "the emulator's primitives are unverified, because no GPU has recorded them: {}",
            unverified.join(", ")
        ));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn gpu_does_what_the_emulator_does() {
    let gpus = common::gpus();
    let folder = std::env::var_os("ONECYCLE_RECORD").map(PathBuf::from);
    let Some(recording) = gpus.first() else {
        return common::skip(format_args!("comparing the primitives with a GPU's: there is none"));
    };
    let (mut faults, mut agree) = (Vec::new(), String::new());
    for &device in &gpus {
        for case in cases() {
            let out = run(&case, device);
            // Written before it is compared: what a GPU does is the truth, above all where it surprises.
            if let Some(folder) = folder.as_ref().filter(|_| device == *recording) {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(folder.join(file(&case)), &out).unwrap();
            }
            let Some(emulator) = emulated::device(Mode::Plain) else { continue };
            let difference = case.difference(&run(&case, emulator), &out);
            match difference {
                Some(d) => faults.push(format!("{}, emulator against {device}: {d}", case.name)),
                None if device == *recording => agree += &format!("{}\n", case.name),
                None => {}
            }
        }
    }
    if let Some(folder) = folder {
        std::fs::write(folder.join("agree.txt"), agree).unwrap();
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The primitives that `prim.cuh` defines for a GPU, as cases are called: `ballot`, `from_f32.bf16`.
fn primitives(text: &str) -> BTreeSet<String> {
    let ptx = text.split_once("\n#else").unwrap().1.split_once("\n#endif").unwrap().0;
    let mut found = BTreeSet::new();
    let (mut typed, mut general) = (BTreeSet::new(), BTreeSet::new());
    for line in ptx.lines().filter(|line| line.contains("__device__ ")) {
        let (head, parameters) = line.split_once('(').unwrap();
        let name = head.rsplit([' ', '*']).next().unwrap();
        match name.split_once('<') {
            // `from_f32<bf16>`: a version of its own.
            Some((name, kind)) => _ = typed.insert(format!("{name}.{}", kind.trim_end_matches('>'))),
            // One of several functions of one name differs by its parameter: `to_f32(bf16 x)`.
            None if name == "to_f32" => {
                _ = typed.insert(format!("{name}.{}", parameters.split(' ').next().unwrap()));
            }
            None => _ = general.insert(name.to_owned()),
        }
    }
    // A template's declaration stands for nothing where each version has its own body.
    general.retain(|name| !typed.iter().any(|t| t.starts_with(&format!("{name}."))));
    found.extend(typed);
    found.extend(general);
    found
}

#[test]
fn every_primitive_has_a_case() {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let (Ok(prim), Ok(kernels)) =
        (std::fs::read_to_string(kernels.join("prim.cuh")), std::fs::read_to_string(kernels.join("selftest.cu")))
    else {
        return common::skip(format_args!("whether every primitive has a case: {} is not there", kernels.display()));
    };
    let primitives = primitives(&prim);
    assert!(primitives.len() >= 18, "only {primitives:?}: is the search broken?");
    let cases = cases();
    for primitive in &primitives {
        let (name, typed) = (primitive.split('.').next().unwrap(), format!("{primitive}."));
        let has_case = cases.iter().any(|c| c.name == primitive || c.name.starts_with(&typed));
        assert!(has_case, "{primitive} of prim.cuh has no case in src/device/cuda/selftest.rs");
        let called = kernels.contains(&format!(" {name}(")) || kernels.contains(&format!("{name}<"));
        assert!(called, "no kernel of selftest.cu calls {name}");
    }
    for case in cases {
        let known = primitives.iter().any(|p| case.name == p || case.name.starts_with(&format!("{p}.")));
        assert!(known, "{} is a case of nothing in prim.cuh", case.name);
    }
}

#[test]
fn differences_are_seen() {
    let all = cases();
    let case = |name: &str| *all.iter().find(|c| c.name == name).unwrap();
    let bits = case("from_f32.bf16");
    assert_eq!(bits.difference(&[1, 2, 3, 4], &[1, 2, 3, 4]), None);
    assert_eq!(
        bits.difference(&[1, 2, 3, 5], &[1, 2, 3, 4]).unwrap(),
        "1 of 2 differ; element 1 is 0x503 instead of 0x403"
    );
    assert!(bits.difference(&[1, 2], &[1, 2, 3, 4]).is_some());
    // Whole sums by every bit, the others as numbers.
    let sums = case("mma_m16n8k16.f16");
    let of = |first: f32, last: f32| {
        let mut all = vec![first; 512];
        all.push(last);
        all.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()
    };
    assert_eq!(sums.difference(&of(1.0, 2.0), &of(1.0, 2.00001)), None);
    assert_eq!(sums.difference(&of(1.0, f32::NAN), &of(1.0, -f32::NAN)), None);
    for (first, last) in [(1.00001, 2.0), (1.0, 2.1), (1.0, f32::NAN), (1.0, f32::INFINITY)] {
        assert!(sums.difference(&of(first, last), &of(1.0, 2.0)).is_some(), "{first}, {last}");
    }
}

//! The driver's side without a driver: each case in a process of its own, since a library is searched for where the environment
//! of its start says. There it finds `fake_libcuda.c`, or nothing.

use super::super::kernels::kernel;
use super::*;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the child is to do.
const SCENARIO: &str = "ONECYCLE_NVIDIA_SCENARIO";

fn skip(why: &str) {
    // What goes through `eprintln!` is not shown when a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Builds the fake driver; `None` after saying why not.
fn fake(folder: &Path, flags: &[&str]) -> Option<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/device/cuda/nvidia/fake_libcuda.c");
    if !cfg!(target_os = "linux") || !source.is_file() {
        skip("the fake driver is for Linux, and for where its source is");
        return None;
    }
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-std=gnu11", "-o"])
        .arg(folder.join("libcuda.so"))
        .arg(&source)
        .args(flags)
        .status();
    match built {
        Ok(status) => assert!(status.success(), "cc failed"),
        Err(e) => {
            skip(&format!("the fake driver: there is no C compiler ({e})"));
            return None;
        }
    }
    Some(())
}

/// Runs `scenario` in a child with libcuda from `folder`; what it wrote.
fn child_with(folder: Option<&Path>, scenario: &str, mode: &str) -> String {
    let name = format!("{}::child", module_path!().split_once("::").unwrap().1);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name.as_str(), "--exact", "--ignored", "--nocapture"]).env(SCENARIO, scenario).env("FAKE_CUDA", mode);
    match folder {
        Some(folder) => command.env("LD_LIBRARY_PATH", folder),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
    let out = command.stdin(Stdio::null()).output().unwrap();
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(out.status.success(), "{scenario}, {mode}: {text}");
    text
}

/// As [`child_with`], with the fake driver; `None` where it can't be built.
fn with_fake(flags: &[&str], scenario: &str, mode: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    fake(folder.path(), flags)?;
    Some(child_with(Some(folder.path()), scenario, mode))
}

/// The children's side.
#[test]
#[ignore = "runs in a process of its own"]
fn child() {
    match std::env::var(SCENARIO).as_deref() {
        Ok("open") => {
            for ordinal in [0, 7] {
                match open(ordinal) {
                    Ok(gpu) => println!("opened {:?} of {}", gpu.description(), count()),
                    Err(e) => println!("error: {e}; count {}", count()),
                }
            }
            println!("library {:?}, version {:?}", libcuda_path(), driver_version());
        }
        Ok("work") => work(open(0).unwrap(), true),
        Ok("graph") => {
            let gpu = open(0).unwrap();
            match gpu.capture_begin().and_then(|()| gpu.capture_end()) {
                Ok(graph) => gpu.forget(graph),
                Err(f) => println!("refused: {}", f.message),
            }
            // What was refused leaves no capture behind, and there is nothing to end.
            println!("then: {:?}", gpu.capture_end());
        }
        Ok("load") => match open(0).unwrap().function(kernel!("relu_forward<f32>")) {
            Ok(_) => println!("has it"),
            Err(f) => println!("refused: {}", f.message),
        },
        other => panic!("{SCENARIO} is {other:?}"),
    }
}

/// Everything that the trait can do, and what comes back.
fn work(gpu: Nvidia, is_fake: bool) {
    let n = 600i64;
    let x: Vec<f32> = (0..n).map(|i| i as f32 - 300.0).collect();
    let bytes = size_of_val(&x[..]);
    let pinned = gpu.allocate_pinned(bytes).unwrap();
    let (at_x, at_y) = (gpu.allocate(bytes).unwrap(), gpu.allocate(bytes).unwrap());
    let function = gpu.function(kernel!("relu_forward<f32>")).unwrap();
    assert_eq!(function, gpu.function(kernel!("relu_forward<f32>")).unwrap());
    let arguments = || {
        [std::ptr::from_ref(&at_x).cast(), std::ptr::from_ref(&at_y).cast(), std::ptr::from_ref(&n).cast()]
            .map(|at| Argument { at, size: 8 })
    };
    let launch = Launch::over(n as usize).shared(64);
    let mut y = vec![0f32; x.len()];
    let event = gpu.event().unwrap();
    // SAFETY: all memory has `bytes` bytes and lives until the end; the arguments are those of the kernel.
    unsafe {
        gpu.copy(Stream::Copy, Transfer::Up(x.as_ptr().cast(), at_x), bytes).unwrap();
        gpu.record(event, Stream::Copy).unwrap();
        gpu.wait(Stream::Compute, event).unwrap();
        gpu.fill(Stream::Compute, at_y, 0xff, bytes).unwrap();
        gpu.copy(Stream::Compute, Transfer::Down(at_y, y.as_mut_ptr().cast()), bytes).unwrap();
        assert!(y.iter().all(|v| v.is_nan()), "fill");
        gpu.launch(Stream::Compute, function, &launch, &arguments()).unwrap();
        gpu.copy(Stream::Compute, Transfer::Down(at_y, pinned.as_ptr()), bytes).unwrap();
        gpu.copy(Stream::Compute, Transfer::Across(at_y, at_x), bytes).unwrap();
        gpu.copy(Stream::Compute, Transfer::Down(at_x, y.as_mut_ptr().cast()), bytes).unwrap();
        gpu.record(event, Stream::Compute).unwrap();
    }
    if is_fake {
        assert_eq!(gpu.is_done(event), Ok(false));
    }
    gpu.synchronize(event).unwrap();
    assert_eq!(gpu.is_done(event), Ok(true));
    gpu.destroy(event);
    let expected: Vec<f32> = x.iter().map(|v| v.max(0.0)).collect();
    // SAFETY: the copy into it is done, and it has `bytes` bytes of numbers.
    assert_eq!(unsafe { std::slice::from_raw_parts(pinned.as_ptr().cast::<f32>(), x.len()) }, expected);
    assert_eq!(y, expected);

    // A graph does nothing when it is made, and the same again each time: with what its memory holds then, and with arguments that
    // have gone since.
    let (mut z, fresh) = (vec![0f32; x.len()], |by: f32| x.iter().map(|v| v * by).collect::<Vec<f32>>());
    gpu.capture_begin().unwrap();
    // SAFETY: as above.
    unsafe {
        gpu.fill(Stream::Capture, at_y, 0xff, bytes).unwrap();
        gpu.copy(Stream::Capture, Transfer::Up(pinned.as_ptr(), at_x), bytes).unwrap();
        gpu.launch(Stream::Capture, function, &launch, &arguments()).unwrap();
        gpu.copy(Stream::Capture, Transfer::Across(at_y, at_x), bytes).unwrap();
        gpu.copy(Stream::Capture, Transfer::Down(at_x, pinned.as_ptr()), bytes).unwrap();
    }
    let graph = gpu.capture_end().unwrap();
    for by in [-1.0, 3.0] {
        let (x, event) = (fresh(by), gpu.event().unwrap());
        // SAFETY: no work uses the pinned memory, which has `bytes` bytes, before the replay, and none after its event.
        unsafe {
            std::ptr::copy_nonoverlapping(x.as_ptr(), pinned.as_ptr().cast(), x.len());
            gpu.replay(graph).unwrap();
            gpu.record(event, Stream::Compute).unwrap();
            gpu.synchronize(event).unwrap();
            std::ptr::copy_nonoverlapping(pinned.as_ptr().cast(), z.as_mut_ptr(), z.len());
        }
        gpu.destroy(event);
        assert_eq!(z, x.iter().map(|v| v.max(0.0)).collect::<Vec<f32>>());
    }
    gpu.forget(graph);

    // Another thread has no context before its first call.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: memory and arguments are still there.
            unsafe { gpu.launch(Stream::Compute, function, &launch, &arguments()).unwrap() };
            let wrong = Launch { grid: [0, 1, 1], ..launch };
            // SAFETY: a driver refuses a grid without blocks.
            let refused = unsafe { gpu.launch(Stream::Compute, function, &wrong, &arguments()) }.unwrap_err();
            assert!(!refused.out_of_memory && refused.message.contains("CUDA_ERROR_INVALID_VALUE"), "{refused:?}");
        });
    });
    println!("memory {:?}", gpu.memory());
    let large = gpu.allocate((1 << 30) + 1);
    println!("large {:?}", large.as_ref().map(|_| "given"));
    // SAFETY: each is given back once, and nothing uses it any more.
    unsafe {
        for at in [at_x, at_y].into_iter().chain(large) {
            gpu.free(at, bytes);
        }
        gpu.free_pinned(pinned, bytes);
    }
}

/// The same work on a real GPU, where there is one.
#[test]
fn the_first_gpu_does_what_the_trait_says() {
    match open(0) {
        Ok(gpu) => {
            println!("{:?}, {:?}", gpu.description(), libcuda_path());
            // Every kernel loads, from whichever code fits.
            for kernel in KernelId::all() {
                gpu.function(kernel).unwrap_or_else(|f| panic!("{}: {}", kernel.kernel().name, f.message));
            }
            work(gpu, false);
        }
        Err(e) => skip(&e.to_string()),
    }
}

#[test]
fn without_a_driver_there_is_an_error_and_no_panic() {
    let said = child_with(None, "open", "");
    if !said.contains("library None") {
        return skip("this machine has a libcuda");
    }
    let expected =
        "error: cuda:0: NVIDIA's driver (libcuda) was not found (install NVIDIA's driver, or use --device cpu)";
    assert!(said.contains(expected) && said.contains("count 0"), "{said}");
}

#[test]
fn a_driver_that_does_not_serve_is_named() {
    let cases: [(&[&str], &str, &str); 6] = [
        (&[], "no_device", "cuda:0: the driver does not start: there is no GPU (CUDA_ERROR_NO_DEVICE, 100) ("),
        (&[], "stub", "take its folder out of LD_LIBRARY_PATH"),
        (&[], "11.4", "it knows CUDA 11.4, and 12.0 is needed"),
        (&["-DOLD"], "", "libcuda.so has no function cuDeviceGetDefaultMemPool"),
        (&[], "turing", "Fake GPU has compute capability 7.5, and 8.0 (Ampere) is needed"),
        (&[], "two", "cuda:7: there are 2 GPUs, cuda:0 to cuda:1"),
    ];
    for (flags, mode, expected) in cases {
        let Some(said) = with_fake(flags, "open", mode) else { return };
        assert!(said.contains(expected), "{mode}: {said}");
        assert!(said.contains("libcuda.so\""), "the library's path: {said}");
    }
}

#[test]
fn a_whole_driver_is_used_as_the_trait_says() {
    if IMAGES.is_empty() {
        return skip("no kernels were built in");
    }
    let Some(said) = with_fake(&[], "open", "hopper") else { return };
    assert!(
        said.contains("name: \"Fake GPU\", capability: (9, 0), driver: \"") && said.contains("CUDA 12.9"),
        "{said}"
    );
    for (mode, large, memory) in [
        ("", "large Err(Failure { out_of_memory: true", "memory Ok((1400, 5000))"),
        ("oom_once", "large Ok(\"given\")", "memory Ok((1400, 5000))"),
        ("no_pools", "large Err(Failure { out_of_memory: true", "memory Ok((1000, 5000))"),
    ] {
        let Some(said) = with_fake(&[], "work", mode) else { return };
        assert!(said.contains(large) && said.contains(memory), "{mode}: {said}");
        assert!(said.contains("left: 0 contexts, 0 blocks, 0 events, 0 modules, 0 graphs"), "{mode}: {said}");
    }
}

#[test]
fn a_driver_that_keeps_no_graphs_says_so_and_leaves_none() {
    for (mode, expected) in [
        ("no_capture", "refused: work that can't be kept as a graph (CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900)"),
        ("no_instantiate", "refused: out of memory"),
    ] {
        let Some(said) = with_fake(&[], "graph", mode) else { return };
        assert!(said.contains(expected), "{mode}: {said}");
        assert!(said.contains("CUDA_ERROR_ILLEGAL_STATE (401)") && said.contains("0 graphs"), "{mode}: {said}");
    }
}

#[test]
fn the_code_that_fits_is_loaded() {
    let Some(image) = IMAGES.iter().find(|image| image.file == "relu") else { return skip("no kernels were built in") };
    let machine = if image.cubin.is_empty() { None } else { Some("loaded machine code") };
    let hopper = IMAGES.iter().any(|image| image.file == "relu" && image.arch == "sm_90a" && !image.ptx.is_empty());
    let hopper = if hopper { "loaded .target sm_90a" } else { "loaded .target sm_80" };
    for (mode, expected) in [
        ("ampere", machine.unwrap_or("loaded .target sm_80")),
        ("hopper", machine.unwrap_or(hopper)),
        ("hopper refuse_machine", hopper),
        ("ampere refuse_machine", "loaded .target sm_80"),
        ("blackwell", "loaded .target sm_80"),
        (
            "blackwell refuse_text",
            "refused: the driver refuses kernels/relu.cu: text for sm_80: the driver's compiler refuses",
        ),
        ("hopper refuse_machine refuse_text", "ptxas application ptx input, line 9; fatal"),
    ] {
        let Some(said) = with_fake(&[], "load", mode) else { return };
        assert!(said.contains(expected), "{mode}: {said}");
    }
}

#[test]
fn every_function_that_is_called_is_looked_for() {
    let sources = [include_str!("../nvidia.rs"), include_str!("library.rs")].concat();
    let called = sources.split("sys::cu").skip(1).filter(|rest| rest.starts_with(char::is_uppercase));
    let called: std::collections::BTreeSet<String> = called
        .map(|rest| format!("cu{}", rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()))
        .collect();
    let listed: std::collections::BTreeSet<String> = library::FUNCTIONS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(called, listed, "FUNCTIONS in library.rs");
}

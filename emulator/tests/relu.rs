//! The first kernel runs, in all orders and copies of itself.

use onecycle_emulator::{Memory, Options, available, kernel, kernels, launch};

#[test]
fn relu_runs() {
    if !available() {
        return eprintln!("skipped: no C++ compiler");
    }
    assert!(kernels().contains(&"relu_forward<bf16>"));
    let relu = kernel("relu_forward<f32>").expect("kernels/relu.cu has it");
    assert_eq!((relu.file(), relu.parameters()), ("relu", &[8usize, 8, 8][..]));
    let memory = Memory::new();
    for check in [false, true] {
        for options in Options::all(check) {
            for n in [1usize, 100, 5000] {
                let x: Vec<f32> = (0..n).map(|i| i as f32 - 50.0).collect();
                let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
                let (a, b) = (memory.allocate(n * 4).unwrap(), memory.allocate(n * 4).unwrap());
                memory.write(a, &bytes).unwrap();
                let count = n as i64;
                let args = [(&raw const a).cast(), (&raw const b).cast(), (&raw const count).cast()].map(|p| (p, 8));
                // SAFETY: two buffers of n numbers.
                let report = unsafe { launch(&memory, relu, [3, 1, 1], [128, 1, 1], 0, &args, &options) }.unwrap();
                assert_eq!((report.blocks, report.threads), (3, 384));
                let mut out = vec![0; n * 4];
                memory.read(b, &mut out).unwrap();
                let expected: Vec<u8> = x.iter().flat_map(|v| v.max(0.0).to_le_bytes()).collect();
                assert!(out == expected);
                memory.free(a).unwrap();
                memory.free(b).unwrap();
            }
        }
    }
    assert_eq!(memory.in_use(), 0);
}

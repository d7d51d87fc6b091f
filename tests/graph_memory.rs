//! What whole networks need on a GPU, seen without one: the memory of a training step by plan and by pool, and how much work
//! the host has with it. The device computes nothing, so the shapes are those of real training.

mod common;

use common::nothing;
use onecycle::nn::{Arch, Context, HeadOptions, Module, Sequential, create_head, resnet};
use onecycle::optim::{Optimizer, OptimizerKind};
use onecycle::prelude::*;
use onecycle::tensor::Pending;
use onecycle::{DType, Device, Tensor, autograd, ops};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

struct Trainer {
    model: Sequential,
    opt: Optimizer,
    x: Tensor,
    y: Tensor,
    step: usize,
    losses: std::collections::VecDeque<Pending>,
}

impl Trainer {
    fn new(arch: &str, n: usize, device: Device) -> Trainer {
        let arch = Arch::by_name(arch).unwrap();
        let model = Sequential::new().push(arch.body()).push(create_head(arch.features(), 37, &HeadOptions::default()));
        model.init_with(1).unwrap();
        model.to_device(device).unwrap();
        Trainer {
            opt: Optimizer::new(OptimizerKind::Adam, resnet::param_groups(&model), false, true),
            model,
            x: Tensor::zeros([n, 224, 224, 3], DType::BF16, device).unwrap(),
            y: Tensor::zeros([n], DType::I64, device).unwrap(),
            step: 0,
            losses: Default::default(),
        }
    }

    fn step(&mut self) -> Result<()> {
        let (number, device) = (self.step, self.x.device());
        self.step += 1;
        device.step(("train", number), || {
            let pred = self.model.forward(&self.x, &Context::train(1, number as u64))?;
            let loss = ops::cross_entropy(&pred, &self.y, &Default::default())?;
            self.losses.push_back(loss.read_back()?);
            if self.losses.len() > 2 {
                self.losses.pop_front().map(Pending::wait).transpose()?;
            }
            autograd::backward(&loss)?;
            self.opt.step()
        })
    }
}

#[test]
fn graph_memory_is_planned() {
    for (arch, n) in [("resnet34", 64), ("resnet50", 64)] {
        let mut peaks = Vec::new();
        for graphs in [false, true] {
            let (device, asked) = nothing::device();
            let Device::Cuda(gpu) = device else { unreachable!("it is a GPU") };
            gpu.use_graphs(graphs);
            let mut trainer = Trainer::new(arch, n, device);
            for _ in 0..12 {
                trainer.step().unwrap();
            }
            let count = || (asked.calls.load(Relaxed), asked.replays.load(Relaxed));
            let (before, start) = (count(), Instant::now());
            for _ in 0..10 {
                trainer.step().unwrap();
            }
            let (after, took) = (count(), start.elapsed() / 10);
            let (calls, replays) = ((after.0 - before.0) / 10, (after.1 - before.1) / 10);
            let mib = |bytes: u64| bytes >> 20;
            println!(
                "{arch} N{n} bf16: {} MiB of device memory (at most {}), plan {:?}, {calls} calls and {replays} replays \
                 a step, {:.2} ms of the host's time",
                mib(asked.bytes.load(Relaxed)),
                mib(asked.peak.load(Relaxed)),
                gpu.plan(),
                took.as_secs_f64() * 1e3
            );
            match graphs {
                false => assert!(calls > 200 && replays == 0),
                true => {
                    assert_eq!((calls, replays), (0, 1), "a step is one launch");
                    let plan = gpu.plan().expect("there is a plan");
                    assert!(plan.arena < plan.pool, "{plan:?}");
                }
            }
            peaks.push(asked.bytes.load(Relaxed));
        }
        assert!(peaks[1] < peaks[0], "{arch}: {} bytes with a plan, {} without", peaks[1], peaks[0]);
    }
}

#!/usr/bin/env python3
"""The training steps of benches/step.rs in PyTorch, under the same names: forward, cross entropy, backward, Adam.

    python torch_steps.py --threads 2                       all cases
    python torch_steps.py --threads 2 --json theirs.jsonl "step/resnet18 N16 64px"

On the processor in f32, with what PyTorch does best there: channels_last, oneDNN, `zero_grad(set_to_none)`. Adam is PyTorch's
own, fused where this version has it for the processor. One JSON object per line with the fields of our harness.
"""
import argparse
import json
import statistics
import time
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

CLASSES = 37
CASES = [("resnet18", 16, 64), ("resnet18", 16, 224), ("resnet34", 16, 224), ("resnet50", 8, 224)]


class Head(nn.Module):
    """fastai's create_head: concat pool, then norm, dropout, linear, ReLU, norm, dropout, linear."""

    def __init__(self, features):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(2 * features), nn.Dropout(0.25), nn.Linear(2 * features, 512, bias=False), nn.ReLU(True),
            nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, CLASSES, bias=False),
        )

    def forward(self, x):
        x = torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], 1)
        return self.layers(torch.flatten(x, 1))


def make(name):
    net = getattr(torchvision.models, name)(weights=None)
    body = nn.Sequential(*list(net.children())[:-2])
    return nn.Sequential(body, Head(net.fc.in_features)).to(memory_format=torch.channels_last)


def adam(model):
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    options = dict(lr=1e-3, betas=(0.9, 0.99), eps=1e-5)
    try:
        return torch.optim.AdamW(groups, fused=True, **options)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(groups, **options)


def peak_rss_mb():
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return 0.0


def timed(name, f, args):
    """As our harness: two runs to warm up, then half a second and at least five runs."""
    f()
    f()
    times, start, cpu = [], time.perf_counter(), time.process_time()
    while len(times) < 5 or (time.perf_counter() - start < args.seconds and len(times) < 1000):
        t = time.perf_counter()
        f()
        times.append((time.perf_counter() - t) * 1e6)
    cpu = (time.process_time() - cpu) / len(times) * 1e6
    times.sort()
    row = {
        "bench": name, "us": round(statistics.median(times), 1), "us_min": round(times[0], 1),
        "us_p90": round(times[round((len(times) - 1) * 0.9)], 1), "us_cpu": round(cpu), "threads": torch.get_num_threads(),
        "peak_rss_mb": round(peak_rss_mb()), "torch": torch.__version__,
    }
    print(json.dumps(row), flush=True)
    if args.json:
        with open(args.json, "a") as out:
            out.write(json.dumps(row) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="parts of the names to run; all without")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--json", help="append the rows to this file")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    for arch, n, size in CASES:
        wanted = [k for k in ("step", "infer")
                  if not args.cases or any(c in f"{k}/{arch} N{n} {size}px" for c in args.cases)]
        if not wanted:
            continue
        model, x = make(arch), torch.randn(n, 3, size, size).to(memory_format=torch.channels_last)
        y, opt = torch.randint(0, CLASSES, (n,)), adam(model)

        def step():
            opt.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x), y)
            loss.item()
            loss.backward()
            opt.step()

        def infer():
            with torch.inference_mode():
                model(x)

        if "step" in wanted:
            model.train()
            timed(f"step/{arch} N{n} {size}px", step, args)
        if "infer" in wanted:
            model.eval()
            timed(f"infer/{arch} N{n} {size}px", infer, args)


if __name__ == "__main__":
    main()

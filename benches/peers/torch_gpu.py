#!/usr/bin/env python3
"""PyTorch's side of `cargo bench -- --device cuda`: the steps of benches/step.rs and the operations of benches/ops.rs by the same names.

    python torch_gpu.py --dtype bf16 --json theirs.jsonl       everything, at most 8 minutes
    python torch_gpu.py --only steps --batch 128 "resnet34"    cases whose name contains the word
    python torch_gpu.py --device cpu --tiny                    does the script run at all (small shapes, no GPU)

What PyTorch does best: channels_last, autocast with f32 masters, fused Adam, `cudnn.benchmark`, gradients set to none. Steps are timed
in several modes: as they are written (eager), replayed as one CUDA graph (graph), compiled (compile), and a graph of what was compiled
(compile+graph). What is cheap to prepare comes first and for all networks, so that when the time is over, it is over among the compiled. A
case that fails says so and the next begins. Operations are timed alone; inputs go in turns, as many as no cache keeps. The first rows are
the card's ceilings by PyTorch's own libraries: a product of two 8192 x 8192 matrices, and a copy.

In f16 a step scales the loss, but for those in a graph, which leave that out: a little in their favour.

Times are medians between CUDA events, one JSON object a line: bench, mode, dtype, us, us_min, us_p90.
"""
import argparse
import json
import pathlib
import statistics
import sys
import threading
import time
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

# Names and shapes have one source, which is beside this folder.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import predict  # noqa: E402

CLASSES = predict.CLASSES
# The order in which they have their turns.
NETWORKS = ("resnet34", "resnet50", "resnet18")
# Between two pieces of work a stop is asked for here; the compiler in the middle of one is stopped by the caller's own limit.
DEADLINE = None
args = None


class OutOfTime(Exception):
    pass


def on_gpu():
    return args.device != "cpu"


def check_time():
    if DEADLINE is not None and time.monotonic() > DEADLINE:
        raise OutOfTime


def synchronize():
    if on_gpu():
        torch.cuda.synchronize()


def wanted(name):
    return not args.cases or any(c in name for c in args.cases)


def timed(name, mode, f, sets=((),), prepare=None, least=1, **more):
    """Times f(*set) in turns, at least `least` in a row. With `prepare`, what it makes of a set is f's input, and its time doesn't count. `more` goes to the row."""
    if not wanted(name):
        return
    # What was prepared takes memory until it is used, so there is less of it.
    most = 8 if prepare else 200
    prepare = prepare or (lambda *s: s)
    for i in range(2 if args.tiny else 5):
        f(*prepare(*sets[i % len(sets)]))
    synchronize()
    samples = 2 if args.tiny else 30
    times = []
    if not on_gpu():
        for i in range(samples):
            ready = prepare(*sets[i % len(sets)])
            start = time.perf_counter()
            f(*ready)
            times.append((time.perf_counter() - start) * 1e6)
    else:
        ready = prepare(*sets[0])
        synchronize()
        start = time.perf_counter()
        f(*ready)
        synchronize()
        # A sample is a batch of runs, so that the gaps between launches are those of a busy GPU.
        runs = max(least, min(most, int(3e-3 / max(time.perf_counter() - start, 1e-6))))
        budget = time.monotonic() + 3
        while len(times) < samples and (len(times) < 5 or time.monotonic() < budget):
            check_time()
            inputs = [prepare(*sets[j % len(sets)]) for j in range(runs)]
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for ready in inputs:
                f(*ready)
            end.record()
            synchronize()
            times.append(begin.elapsed_time(end) * 1e3 / runs)
    times.sort()
    row = {"bench": name, "mode": mode, "dtype": args.dtype, "us": round(statistics.median(times), 2), "us_min": round(times[0], 2),
           "us_p90": round(times[round((len(times) - 1) * 0.9)], 2), "torch": torch.__version__,
           "device": torch.cuda.get_device_name() if on_gpu() else "cpu", **more}
    print(json.dumps(row), flush=True)
    if args.json:
        with open(args.json, "a") as out:
            out.write(json.dumps(row) + "\n")


def dtype():
    return {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[args.dtype]


def size(full):
    """As benches/ops.rs: small where nothing is measured."""
    return min(max(full // 14, 2), 9, full) if args.tiny else full


def random(*shape, kind=None):
    x = torch.randn(*shape, device=args.device, dtype=kind or dtype())
    return x.to(memory_format=torch.channels_last) if len(shape) == 4 else x


def turns(bytes_of_one):
    return max(1, min(16, -(-400_000_000 // max(1, int(bytes_of_one))))) if on_gpu() and not args.tiny else 1


# ------------------------------------------------------------------------------------------------------------------- steps
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


def network(name, frozen):
    import torchvision
    net = getattr(torchvision.models, name)(weights=None)
    model = nn.Sequential(nn.Sequential(*list(net.children())[:-2]), Head(net.fc.in_features))
    if frozen:  # as fastai's freeze(): batch norm goes on training
        for module in model[0].modules():
            if not isinstance(module, nn.BatchNorm2d):
                for p in module.parameters(recurse=False):
                    p.requires_grad_(False)
    return model.to(args.device).to(memory_format=torch.channels_last)


def adam(model):
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), eps=1e-5, fused=on_gpu(), capturable=on_gpu())


class Case:
    """A network with its optimizer and a batch; `forward` is the network, or what was compiled of it."""

    def __init__(self, arch, n, side, frozen, compiled):
        torch.manual_seed(0)
        self.model = network(arch, frozen)
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        self.opt = adam(self.model)
        self.x, self.y = random(n, 3, side, side, kind=torch.float32), torch.randint(0, CLASSES, (n,), device=args.device)
        self.scaler = torch.amp.GradScaler(args.device, enabled=args.dtype == "f16")

    def autocast(self, keep):
        half = args.dtype != "f32"
        return torch.autocast(args.device, dtype=dtype() if half else torch.bfloat16, enabled=half, cache_enabled=keep)

    def step(self, scaled=True):
        self.opt.zero_grad(set_to_none=True)
        with self.autocast(keep=scaled):
            loss = F.cross_entropy(self.forward(self.x), self.y)
        if scaled:
            self.scaler.scale(loss).backward()
            self.scaler.step(self.opt)
            self.scaler.update()
        else:
            loss.backward()
            self.opt.step()

    def infer(self, keep=True):
        with torch.no_grad(), self.autocast(keep):
            self.forward(self.x)

    def graph(self, f):
        """What f launches, as one CUDA graph."""
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(3):
                f()
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        self.opt.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            f()
        return graph.replay


def steps():
    batches = [args.batch] if args.batch else sorted(predict.STEP_BATCHES, reverse=True)
    cases = [(arch, n, 224) for n in batches for arch in NETWORKS]
    if args.tiny:
        cases = [("resnet18", 2, 32), ("resnet50", 2, 32)]
    for compiled in (False, True):
        for infer in (False, True) if compiled else (None,):  # one compilation each
            for frozen in (False,) if infer else (False, True):
                for arch, n, side in cases:
                    if any(mode.startswith("compile") == compiled for mode in args.modes):
                        attempt(f"{arch} N{n}", lambda: one_network(arch, n, side, frozen, compiled, infer))


def one_network(arch, n, side, frozen, compiled, infer):
    """All modes of one network. `infer`: its predictions, or without them, or (None) both."""
    step_name = f"{'step_frozen' if frozen else 'step'}/{arch} N{n} {side}px"
    infer_name = f"infer/{arch} N{n} {side}px"
    with_step, with_infer = infer is not True and wanted(step_name), infer is not False and not frozen and wanted(infer_name)
    if not with_step and not with_infer:
        return
    case, plain, graph = Case(arch, n, side, frozen, compiled), *(("compile", "compile+graph") if compiled else ("eager", "graph"))

    def both(name, f, in_graph):
        if plain in args.modes:
            timed(name, plain, f, least=6) # as in a training, the host is ahead
        if graph in args.modes and on_gpu():
            attempt(f"{name} ({graph})", lambda: timed(name, graph, case.graph(in_graph), least=6), alone=False)

    if with_step:
        both(step_name, case.step, lambda: case.step(scaled=False))
    if with_infer:
        case.model.eval()
        both(infer_name, case.infer, lambda: case.infer(keep=False))


# -------------------------------------------------------------------------------------------------------------- operations
def ceilings():
    side, count = (64, 1 << 20) if args.tiny else (8192, 1 << 30)
    # Random numbers: zeros draw less power, and the clock is higher.
    a, b = random(side, side), random(side, side)
    timed("ceiling/product", "eager", lambda: a @ b, flop=2 * side**3)
    x = torch.randint(0, 255, (count,), dtype=torch.uint8, device=args.device)
    y = torch.empty_like(x)
    timed("ceiling/copy", "eager", lambda: y.copy_(x), bytes=2 * count)


def convolutions(n):
    backward = torch.ops.aten.convolution_backward
    for name, (c, k, r, stride, h) in predict.convolutions():
        h, c, k = size(h), size(c), size(k)
        p = (h + 2 * (r // 2) - r) // stride + 1
        name, pad = f"{name} N{n}", r // 2
        parts = [f"{name}/{part}" for part in ("forward", "input_gradient", "weight_gradient")]
        if not any(wanted(part) for part in parts):
            continue
        count = turns((n * h * h * c + n * p * p * k) * torch.empty(0, dtype=dtype()).element_size())
        w = random(k, c, r, r)
        sets = [(random(n, c, h, h), random(n, k, p, p)) for _ in range(count)]

        def gradient(mask):
            return lambda x, dy: backward(dy, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)

        timed(parts[0], "eager", lambda x, dy: F.conv2d(x, w, stride=stride, padding=pad), sets)
        timed(parts[1], "eager", gradient([True, False, False]), sets)
        timed(parts[2], "eager", gradient([False, True, False]), sets)


def both_ways(name, f, *inputs):
    """f forward, then only the way back."""
    if not wanted(f"{name}/forward") and not wanted(f"{name}/backward"):
        return
    count = turns(sum(t.numel() * t.element_size() for t in inputs))
    sets = [tuple(t.clone() for t in inputs) for _ in range(count)]
    with torch.no_grad():
        timed(f"{name}/forward", "eager", f, sets)
    dy = torch.randn_like(f(*inputs))

    def graph(*ts):
        leaves = [t.detach().requires_grad_() for t in ts]
        return f(*leaves), leaves

    timed(f"{name}/backward", "eager", lambda y, leaves: torch.autograd.grad(y, leaves, dy), sets, graph)


def operations():
    n = args.batch or (2 if args.tiny else 128)
    attempt("ceilings", ceilings)
    attempt("convolutions", lambda: convolutions(n))
    c, side = size(64), size(56)
    norm = nn.BatchNorm2d(c).to(args.device)
    x = random(n, c, side, side)
    rows = size(64)
    targets = torch.arange(rows, device=args.device) % CLASSES
    w = random(size(512), size(1024))
    cases = [
        (f"batch_norm/relu 64x56 N{n}", lambda x: F.relu(norm(x)), (x,)),
        (f"batch_norm/add+relu 64x56 N{n}", lambda x, r: F.relu(norm(x) + r), (x, random(n, c, side, side))),
        (f"relu 64x56 N{n}", F.relu, (x,)),
        (f"add 64x56 N{n}", torch.add, (x, random(n, c, side, side))),
        (f"max_pool 3x3/2 64x112 N{n}", lambda x: F.max_pool2d(x, 3, 2, 1), (random(n, c, size(112), size(112)),)),
        (f"concat_pool 512x7 N{n}", lambda x: torch.cat([F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(x, 1)], 1),
         (random(n, size(512), size(7), size(7)),)),
        (f"linear 64x1024>512 N{n}", F.linear, (random(rows, size(1024)), w)),
        (f"dropout 64x1024 N{n}", lambda x: F.dropout(x, 0.5), (random(rows, size(1024)),)),
        (f"cross_entropy 64x37 N{n}", lambda x: F.cross_entropy(x, targets), (random(rows, CLASSES),)),
    ]
    for name, f, inputs in cases:
        attempt(name, lambda: both_ways(name, f, *inputs))

    def optimizer():
        p = torch.randn(1000 if args.tiny else 21_830_976, device=args.device)
        p.grad = torch.randn_like(p)
        opt = torch.optim.AdamW([p], lr=1e-3, betas=(0.9, 0.99), eps=1e-5, fused=on_gpu())
        timed("optimizer_step adam 21.8M", "eager", opt.step)

    attempt("optimizer", optimizer)


def attempt(what, f, alone=True):
    """Runs f; a failure is said, and the next case has its turn. `alone`: nothing of it is needed afterwards."""
    check_time()
    try:
        f()
    except OutOfTime:
        raise
    except Exception as e:
        print(f"# {what}: {type(e).__name__}: {str(e)[:200]}", file=sys.stderr, flush=True)
        FAILED.append(what)
    finally:
        if alone:
            if on_gpu():
                torch.cuda.empty_cache()
            torch._dynamo.reset()


FAILED = []


def main():
    global args, DEADLINE
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="parts of the names to run; all without")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f16", "f32"])
    parser.add_argument("--only", choices=["steps", "operations"])
    modes = ["eager", "graph", "compile", "compile+graph"]
    parser.add_argument("--modes", nargs="+", default=modes, choices=modes)
    parser.add_argument("--batch", type=int, help="pictures: without, 128, and in steps 128 and 64")
    parser.add_argument("--seconds", type=float, default=480, help="time for everything")
    parser.add_argument("--tf32", action="store_true", help="f32 products on tensor cores with 10 bits of fraction, which ours don't do")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", help="append the rows to this file")
    args = parser.parse_args()
    if args.device == "cpu":
        args.modes = ["eager"]
    warnings.filterwarnings("ignore")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    DEADLINE = time.monotonic() + args.seconds
    # A compiler that doesn't come back would take the rows of the next stage with it.
    watchdog = threading.Timer(args.seconds + 30, lambda: __import__("os")._exit(124))
    watchdog.daemon = True
    watchdog.start()
    try:
        if args.only != "steps":
            operations()
        if args.only != "operations":
            steps()
    except OutOfTime:
        print("# the time is over", file=sys.stderr)
    if FAILED:
        sys.exit(f"failed: {', '.join(FAILED)}")


if __name__ == "__main__":
    main()

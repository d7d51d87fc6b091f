#!/usr/bin/env python3
"""What the kernels should take on an H200, written down before they are measured: benches/predictions.json.

    python3 benches/predict.py            writes the file anew
    python3 benches/predict.py --check    says whether the file is what this script writes
    python3 benches/predict.py --show     images a second of each step

A kernel's floor is the larger of two times: its multiplications and additions (two FLOP for a pair; convolutions and linear layers only)
at the matrix rate, and the bytes of each distinct input and output, moved once, at the copy rate. A step's floor is the sum over its
kernels, which run one after the other, as one graph without a gap, launched one by one with a microsecond between. Floors use what such a card was seen to reach with other programs, in a copy and in a product of two
8192 x 8192 matrices. Predictions use what kernels made of mma.sync are expected to reach, so they are the same sums with other rates.

Two plans of a step. `tensor`: a convolution, statistics, and normalising with addition and ReLU are three kernels, and so
they are on the way back (sums, then the gradient). `fused`: statistics are taken where the convolution's results are still in registers;
the input gradient's kernel adds the shortcut's gradient, masks, and takes batch norm's sums; stem, ReLU and max pool are one pass.

A step's row holds, besides the sums, how much of the floor is arithmetic and how much memory: the FLOP of the kernels that are bound by the
one and the bytes of those bound by the other. So a floor can be made of it for the rates that a bench has measured. The same stands there for each
operation of a step in which everything is trained.
"""
import argparse
import json
import pathlib
import sys

CARD = "NVIDIA H200"
FLOOR = (788e12, 4.3e12)  # FLOP/s, bytes/s
EXPECTED = (350e12, 3.7e12)
GAP = 1e-6  # seconds between two kernels that are launched one by one
BATCHES = (64, 128, 256)
STEP_BATCHES = (64, 128)
CLASSES = 37
HALF, FULL = 2, 4  # bytes of an activation, and of a parameter or its gradient
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
FILE = pathlib.Path(__file__).with_name("predictions.json")


class Conv:
    """A convolution of n pictures: c channels of h x h pixels to k, by an r x r filter. x, y, w are bytes."""

    def __init__(self, n, c, k, r, stride, h):
        p = h // stride
        self.shape = (c, k, r, stride, h)
        self.k, self.weights = k, c * k * r * r
        self.x, self.y, self.w = HALF * n * h * h * c, HALF * n * p * p * k, HALF * self.weights
        self.flop = 2 * n * p * p * k * c * r * r
        self.name = f"conv2d/{c}>{k} {r}x{r}/{stride} {h}"

    def forward(self, extra=0):
        return self.flop, self.x + self.y + self.w + extra

    def weight_gradient(self):
        return self.flop, self.x + self.y + FULL * self.weights


def network(arch, n):
    """The stem, the blocks (convolutions in order, and that of the shortcut or None), and the features behind the last."""
    wide, blocks, c, h = arch == "resnet50", [], 64, 56
    for stage, depth in enumerate(DEPTHS[arch]):
        inner = 64 << stage
        k = inner * (4 if wide else 1)
        for i in range(depth):
            stride = 2 if stage and not i else 1
            down = Conv(n, c, k, 1, stride, h) if stride > 1 or c != k else None
            if wide:
                body = [Conv(n, c, inner, 1, 1, h), Conv(n, inner, inner, 3, stride, h), Conv(n, inner, k, 1, 1, h // stride)]
            else:
                body = [Conv(n, c, k, 3, stride, h), Conv(n, k, k, 3, 1, h // stride)]
            blocks.append((body, down))
            c, h = k, h // stride
    return Conv(n, 3, 64, 7, 2, 224), blocks, c


def step(arch, n, fused, mode, folds=False):
    """(FLOP, bytes, operation) of each kernel. mode: step, step_frozen (the body's convolutions stay, its batch norm trains), infer. `folds`:
    batch norm that doesn't train is part of the convolution. Operations have the names of `cargo bench --bench step -- --profile`."""
    stem, blocks, features = network(arch, n)
    train, weights = mode != "infer", mode == "step"
    pooled, places = stem.y // 4, stem.y // 8  # a byte says which of the nine it was
    head = 2 * features * 512 + 512 * CLASSES
    head_flop, last = 2 * n * head, blocks[-1][0][-1].y
    out = []
    add = lambda operation, flop, moved: out.append((flop, moved, operation))
    conv2d, norm, pool = "Forward conv2d", "Forward batch_norm", "Forward norm_pool" if fused else "Forward max_pool"

    # Forward. Without training, batch norm's numbers are known and could be folded into the convolution's: floors count that, plans not yet.
    add(conv2d, *stem.forward())
    if not fused:
        [add(norm, 0, stem.y) for _ in range(train)]
        add(norm, 0, 2 * stem.y)
    add(pool, 0, stem.y + pooled + (places if train else 0))
    for body, down in blocks:
        for conv in body + ([down] if down else []):
            joins = conv is body[-1]
            folded = folds and not train
            add(conv2d, *conv.forward(conv.y if folded and joins else 0))
            if train and not fused:
                add(norm, 0, conv.y)
            if conv is not down and not folded:
                add(norm, 0, (3 if joins else 2) * conv.y)
    add("Forward linear", head_flop, last + FULL * head)
    if not train:
        return out

    # Back. What arrives at a block's end is g; behind its ReLU's mask it is d, which is the shortcut's gradient too.
    dx, dw, norm = "Backward conv2d input gradient", "Backward conv2d weight gradient", "Backward batch_norm"
    pool = "Backward norm_pool" if fused else "Backward max_pool"
    add("Backward linear", 2 * head_flop, 2 * FULL * head + last * (3 if fused else 1))
    for at in reversed(range(len(blocks))):
        body, down = blocks[at]
        for conv in reversed(body):
            y, joins = conv.y, conv is body[-1]
            if fused:
                add(norm, 0, 3 * y)  # d and y to dy
            else:
                read = 3 + (joins and at + 1 < len(blocks))  # the gradient, also the shortcut's; the ReLU's result; y
                add(norm, 0, read * y)
                add(norm, 0, (read + (2 if joins else 1)) * y)
            if joins and down:
                if not fused:
                    add(norm, 0, 2 * y)
                add(norm, 0, 3 * y)
                add(dx, *down.forward())
                if weights:
                    add(dw, *down.weight_gradient())
            extra = 0
            if fused:
                # The input gradient's kernel looks at what is before this layer: y for the sums, and in front of a block also the
                # shortcut's gradient, what the ReLU made, and the shortcut's y.
                extra = conv.x if conv is not body[0] else conv.x * (3 + bool(blocks[at - 1][1]) if at else 1)
            add(dx, *conv.forward(extra))
            if conv is body[0] and not at and not fused:
                add("Backward gradient sum", 0, 3 * conv.x)
            if weights:
                add(dw, *conv.weight_gradient())
    add(pool, 0, pooled + places + stem.y)
    if not fused:
        add(norm, 0, 3 * stem.y)
    if weights:
        add(pool if fused else norm, 0, pooled + places + 2 * stem.y if fused else 4 * stem.y)
        add(dw, *stem.weight_gradient())

    # Adam reads and writes a parameter and its two averages, reads the gradient and writes the half-precision copy.
    convs = [stem] + [c for body, down in blocks for c in body + ([down] if down else [])]
    norms = sum(2 * c.k for c in convs) + 4 * features + 1024
    add("optimizer step", 0, (7 * FULL + HALF) * (head + norms + (sum(c.weights for c in convs) if weights else 0)))
    return out


def seconds(kernels, rates):
    return sum(max(flop / rates[0], moved / rates[1]) for flop, moved, *_ in kernels)


def bounds(kernels):
    """The FLOP of the kernels that are bound by arithmetic, and the bytes of the others."""
    computes = lambda kernel: kernel[0] / EXPECTED[0] > kernel[1] / EXPECTED[1]
    return {"math_flop": sum(k[0] for k in kernels if computes(k)), "memory_bytes": sum(k[1] for k in kernels if not computes(k))}


def by_operation(plans):
    """What each operation of a step is bound by, in the fused plan, and how long it should take in each plan."""
    made = {}
    for name in dict.fromkeys(kernel[2] for kernels in plans.values() for kernel in kernels):
        mine = {plan: [kernel for kernel in kernels if kernel[2] == name] for plan, kernels in plans.items()}
        made[name] = {
            **bounds(mine["fused"]),
            **{plan: us(seconds(kernels, EXPECTED) + len(kernels) * GAP) for plan, kernels in mine.items() if kernels},
        }
    return made


def us(s):
    return round(s * 1e6, 1)


def layers(n):
    """Every convolution of the three networks that differs from the others."""
    convs = {}
    for arch in ("resnet34", "resnet50"):
        stem, blocks, _ = network(arch, n)
        for conv in [stem] + [c for body, down in blocks for c in body + ([down] if down else [])]:
            convs.setdefault(conv.shape, conv)
    return convs.values()


def convolutions():
    """Name, and (channels in and out, filter, stride, side of the picture), of each of them."""
    return [(conv.name, conv.shape) for conv in layers(1)]


def rows():
    """Name to row, for every convolution and every step."""
    made = {}
    for n in BATCHES:
        for conv in layers(n):
            # The stem's rows of 7 pixels of 3 channels are made 8 of 4, to be multiples of 16 bytes.
            waste = 224 / 147 if conv.shape[0] == 3 else 1
            for part in ("forward", "input_gradient", "weight_gradient"):
                kernel = conv.weight_gradient() if part == "weight_gradient" else conv.forward()
                made[f"{conv.name} N{n}/{part}"] = {
                    "floor_us": us(seconds([kernel], FLOOR)),
                    "tensor": us(seconds([(kernel[0] * waste, kernel[1])], EXPECTED)),
                }
            # What the fused rung does on the way: the norm's input is read for its sums, and in front of a block what came along the
            # shortcut, and the ReLU's result for its mask.
            fused = {"forward+statistics": 0}
            if conv.shape[0] != 3:
                fused |= {"input_gradient+mask+sums": 1, "input_gradient+shortcut+mask+sums": 3}
            for part, visits in fused.items():
                kernel = conv.forward(visits * conv.x)
                made[f"{conv.name} N{n}/{part}"] = {
                    "floor_us": us(seconds([kernel], FLOOR)),
                    "fused": us(seconds([(kernel[0] * waste, kernel[1])], EXPECTED)),
                }
    for mode in ("step", "step_frozen", "infer"):
        for arch in DEPTHS:
            for n in STEP_BATCHES:
                plans = {"tensor": step(arch, n, False, mode), "fused": step(arch, n, True, mode)}
                best = step(arch, n, True, mode, folds=True)
                made[f"{mode}/{arch} N{n} 224px"] = {
                    "flop": sum(kernel[0] for kernel in best),
                    "bytes": sum(kernel[1] for kernel in best),
                    **bounds(best),
                    "floor_us": us(seconds(best, FLOOR)),
                    **{plan: us(seconds(kernels, EXPECTED) + len(kernels) * GAP) for plan, kernels in plans.items()},
                    **{f"{plan}+graph": us(seconds(kernels, EXPECTED)) for plan, kernels in plans.items()},
                }
                if mode == "step":
                    made[f"{mode}/{arch} N{n} 224px"]["operations"] = by_operation(plans)
    return made


def text():
    head = {"card": CARD, "dtypes": ["bf16", "f16"], "floor_rates": FLOOR, "expected_rates": EXPECTED}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows().items())
    return json.dumps(head)[:-1] + ', "rows": {\n' + lines + "\n}}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    if args.show:
        for name, row in rows().items():
            if "flop" in row:
                n = int(name.split(" N")[1].split()[0])
                print(f"{name:<32} floor {n / row['floor_us'] * 1e6:>8,.0f}   tensor {n / row['tensor'] * 1e6:>8,.0f}   "
                      f"fused {n / row['fused'] * 1e6:>8,.0f} with graph {n / row['fused+graph'] * 1e6:>8,.0f} img/s   {row['bytes'] / n / 1e6:>6.1f} MB, {row['flop'] / n / 1e9:>6.2f} GFLOP a picture")
    elif args.check:
        if not FILE.is_file() or FILE.read_text() != text():
            sys.exit(f"{FILE} is out of date: python3 benches/predict.py")
    else:
        FILE.write_text(text())


if __name__ == "__main__":
    main()

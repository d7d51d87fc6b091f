#!/usr/bin/env python3
"""The loader cases of benches/loader.rs in Pillow and fastai, under the same names.

    python pillow_photos.py make DIR                        draws the photographs that both sides read
    python pillow_photos.py time DIR --json theirs.jsonl "loader/decode, Resize(460)"

The photographs are drawn, so that everyone has the same: 100 JPEGs of 500x375, 375x500, 500x333 and 333x500, 4:2:0, quality 72 to 89, about
70 KB each. Light and colour fall with frequency as in nature (1/f), filled shapes give edges, texture and sensor noise the rest.
Pillow is timed as fastai uses it: open, load, convert to RGB; crop a square at the source's scale, BILINEAR to 460. Files are read
once before, so no disk is measured. One JSON object per line with the fields of our harness.
"""
import argparse
import json
import pathlib
import statistics
import time

from PIL import Image

SIZES = [(500, 375), (375, 500), (500, 333), (333, 500)]


def peak_rss_mb():
    try:
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in f if line.startswith("VmHWM:"))
    except OSError:
        return 0


def make(folder, count=100):
    import numpy as np

    rng = np.random.default_rng(42)

    def natural(w, h, power):
        """Noise whose amplitude falls as 1/f^power: [h, w], mean 0, deviation 1."""
        f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
        f[0, 0] = 1
        spectrum = np.exp(2j * np.pi * rng.random(f.shape)) / f**power
        spectrum[0, 0] = 0
        field = np.fft.irfft2(spectrum, (h, w))
        return field / field.std()

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        w, h = SIZES[i % len(SIZES)]
        y, x = np.mgrid[:h, :w]
        light, colour = 125 + 45 * natural(w, h, 1.1), [18 * natural(w, h, 1.4) for _ in range(2)]
        for _ in range(rng.integers(3, 9)):
            cx, cy, rx, ry = rng.random(4) * (w, h, w / 4, h / 4) + (0, 0, 8, 8)
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1 if rng.random() < 0.5 else (
                (abs(x - cx) < rx) & (abs(y - cy) < ry))
            light = np.where(inside, light * 0.5 + rng.uniform(10, 120), light)
            colour = [np.where(inside, rng.uniform(-35, 35), c) for c in colour]
        light = light + 6 * natural(w, h, 0.5) + rng.normal(0, 3, (h, w))
        ycc = np.stack([light, 128 + colour[0], 128 + colour[1]], -1).clip(0, 255).astype(np.uint8)
        quality = int(rng.integers(72, 90))
        Image.fromarray(ycc, "YCbCr").convert("RGB").save(folder / f"{i:03}.jpg", quality=quality, subsampling="4:2:0")
    sizes = [p.stat().st_size for p in folder.glob("*.jpg")]
    print(f"{len(sizes)} photographs of {statistics.mean(sizes) / 1e3:.1f} KB in {folder}")


def decode(path):
    image = Image.open(path)
    image.load()
    return image.convert("RGB")


def resize(image, size=460):
    """fastai's Resize(size) in validation."""
    w, h = image.size
    m = min(w / size, h / size)
    cw, ch = int(m * size), int(m * size)
    left, top = int((w - cw) * 0.5), int((h - ch) * 0.5)
    return image.crop((left, top, left + cw, top + ch)).resize((size, size), Image.BILINEAR)


def loader(paths, workers):
    """fastai's DataLoader over the same files, labels included; its transforms on the device aren't run."""
    from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, IndexSplitter, Resize

    block = DataBlock((ImageBlock, CategoryBlock), get_y=lambda p: p.name[-5], splitter=IndexSplitter([0]), item_tfms=Resize(460))
    dls = block.dataloaders(paths, bs=64, num_workers=workers)
    dls.train.after_batch.fs.clear()
    return dls.train.new(drop_last=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "time"])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("cases", nargs="*", help="parts of names; all without")
    parser.add_argument("--json", help="append the rows to this file")
    args = parser.parse_args()
    if args.what == "make":
        return make(args.dir)
    paths = sorted(args.dir.glob("*.jpg"))
    pictures = [decode(p) for p in paths[:48]]

    def each(f, items):
        def run():
            for item in items:
                f(item)
        return run, len(items)

    def whole(workers):
        # Enough that starting the worker processes weighs as little as in an epoch.
        many = paths * 20
        made = []

        def run():
            made or made.append(loader(many, workers))
            for _ in made[0]:
                pass
        return run, len(many)

    cases = {
        "loader/decode, 1 thread": lambda: each(decode, paths[:48]),
        "loader/Resize(460), 1 thread": lambda: each(resize, pictures),
        "loader/decode, Resize(460), 1 thread": lambda: each(lambda p: resize(decode(p)), paths[:48]),
        "loader/whole, Resize(460), 1 workers": lambda: whole(1),
        "loader/whole, Resize(460), 2 workers": lambda: whole(2),
    }
    for name, case in cases.items():
        if args.cases and not any(c in name for c in args.cases):
            continue
        run, items = case()
        long = "whole" in name
        if not long:
            run()
        times, cpu, start = [], time.process_time(), time.perf_counter()
        while len(times) < (1 if long else 5) or (not long and time.perf_counter() - start < 1):
            t = time.perf_counter()
            run()
            times.append(time.perf_counter() - t)
        cpu = (time.process_time() - cpu) / len(times)
        times.sort()
        us, least, p90 = (1e6 * t for t in (statistics.median(times), times[0], times[int(0.9 * (len(times) - 1))]))
        row = {"bench": name, "us": us, "us_min": least, "us_p90": p90, "us_cpu": 1e6 * cpu, "items": items,
               "peak_rss_mb": peak_rss_mb()}
        print(f"{name:<44} {1e6 * items / us:>7.0f} img/s, fastest {1e6 * items / least:.0f}")
        if args.json:
            with open(args.json, "a") as f:
                f.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()

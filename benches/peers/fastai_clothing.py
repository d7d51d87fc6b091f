#!/usr/bin/env python3
"""A whole training run in fastai, to set beside ours: seconds per epoch and the table.

    python fastai_clothing.py DIR [--epochs 5] [--seed 0] [--workers 2] [--threads N]

DIR holds `train/CLASS/*.jpg` and `validation/CLASS/*.jpg`. The recipe: ResNet-18 from scratch, `Resize(128)`,
`aug_transforms(size=96, min_scale=0.75)`, ImageNet normalisation, batches of 64, `fit_one_cycle(epochs, 3e-3)`, f32.
"""
import argparse
import json
import time

import torch
from fastai.vision.all import (
    Callback, CategoryBlock, DataBlock, GrandparentSplitter, ImageBlock, Normalize, Resize, aug_transforms, error_rate,
    get_image_files, imagenet_stats, parent_label, resnet18, set_seed, vision_learner,
)


class Seconds(Callback):
    """Wall time of each epoch, validation included."""

    def before_fit(self):
        self.seconds = []

    def before_epoch(self):
        self.start = time.perf_counter()

    def after_epoch(self):
        self.seconds.append(time.perf_counter() - self.start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", help="append the result to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    set_seed(args.seed, reproducible=True)
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label,
        splitter=GrandparentSplitter(train_name="train", valid_name="validation"), item_tfms=Resize(128),
        batch_tfms=[*aug_transforms(size=96, min_scale=0.75), Normalize.from_stats(*imagenet_stats)],
    )
    dls = block.dataloaders(args.dir, bs=64, num_workers=args.workers)
    seconds = Seconds()
    learn = vision_learner(dls, resnet18, metrics=error_rate, pretrained=False, cbs=seconds)
    learn.fit_one_cycle(args.epochs, 3e-3)
    rows = [
        {"epoch": i, "train_loss": row[0], "valid_loss": row[1], "error_rate": row[2], "seconds": round(s, 2)}
        for i, (row, s) in enumerate(zip(learn.recorder.values, seconds.seconds))
    ]
    for row in rows:
        print("{epoch:>5} {train_loss:>11.6f} {valid_loss:>11.6f} {error_rate:>11.6f} {seconds:>8.1f} s".format(**row))
    mean = sum(seconds.seconds) / len(seconds.seconds)
    print(f"{mean:.1f} s an epoch ({args.threads} threads, {args.workers} loader workers)")
    if args.json:
        with open(args.json, "a") as out:
            out.write(json.dumps({"bench": "fastai_clothing", "seed": args.seed, "epochs": rows}) + "\n")


if __name__ == "__main__":
    main()

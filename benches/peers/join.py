#!/usr/bin/env python3
"""Ours beside PyTorch's, row by row: join.py OURS.jsonl THEIRS.jsonl, a table in Markdown.

Rows meet by name and type of numbers. Of each side the fastest way counts. A ratio under 1 means that ours is faster.
"""
import json
import pathlib
import sys


def fastest(path):
    """(name, type) to its fastest row, in the file's order."""
    best = {}
    for line in pathlib.Path(path).read_text().splitlines():
        row = json.loads(line)
        key = row["bench"], row.get("dtype", "f32")
        if key not in best or row["us"] < best[key]["us"]:
            best[key] = row
    return best


def cell(us):
    return "" if us is None else f"{us:.1f}" if us < 1000 else f"{us:.0f}"


def main(ours, theirs):
    ours, theirs = fastest(ours), fastest(theirs)
    for (name, dtype), row in theirs.items():
        if name.startswith("ceiling/"):
            print(f"{name} in {dtype}, PyTorch: {(row.get('flop') or row['bytes']) / row['us'] / 1e6:.2f} {'TFLOP/s' if 'flop' in row else 'TB/s'}\n")
    print("| case | type | ours | us | PyTorch | us | ratio | predicted, us | % of the floor |\n|---|---|---|---|---|---|---|---|---|")
    for (name, dtype), row in ours.items():
        peer = theirs.get((name, dtype))
        told = [name, dtype, row.get("mode") or "-", cell(row["us"])]
        told += [peer.get("mode") or "-", cell(peer["us"]), f"{row['us'] / peer['us']:.2f}"] if peer else ["", "", ""]
        told += [cell(row.get("predicted_us")), f"{100 * row['fraction']:.0f}" if row.get("fraction") else ""]
        print("| " + " | ".join(told) + " |")
    missing = [f"{name} in {dtype}" for name, dtype in theirs if (name, dtype) not in ours and not name.startswith("ceiling/")]
    if missing:
        print(f"\nOnly PyTorch has {len(missing)} more, the first of them {missing[0]}.")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])

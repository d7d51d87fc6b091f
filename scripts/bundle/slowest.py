#!/usr/bin/env python3
"""The five kernels that took most of a profiled step, from what `ncu --csv --page raw --print-units base` writes: slowest.py FILE

Launches of one kernel with one grid are one row: its time in all, and per launch the bytes from memory and from the second-level cache, how
long the tensor cores were busy, and how often shared memory had to be asked again because two lanes wanted one bank.
"""
import csv
import re
import sys

COLUMNS = [  # heading, metric's beginning, unit of a printed number
    ("DRAM MB", "dram__bytes", 1e6),
    ("L2 MB", "lts__t_bytes", 1e6),
    ("tensor %", "sm__pipe_tensor", 1),
    ("conflicts", "l1tex__data_bank_conflicts", 1),
]


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0


def main(path):
    with open(path, newline="") as file:
        lines = [row for row in csv.reader(file) if len(row) > 5]
    start = next((i for i, row in enumerate(lines) if row[0] == "ID"), None)
    if start is None:
        sys.exit(f"{path}: no table of ncu")
    head = lines[start]
    place = lambda name: next((i for i, h in enumerate(head) if h.startswith(name)), None)
    name, grid, duration = place("Kernel Name"), place("Grid Size"), place("gpu__time_duration")
    if None in (name, grid, duration):
        sys.exit(f"{path}: the kernels' names, grids or times are missing")
    launches = [row for row in lines[start + 1:] if len(row) == len(head) and row[0].isdigit()]
    kinds = {}
    for row in launches:
        # Without parameters: they are the same for all launches.
        kinds.setdefault((re.sub(r"\(.*", "", row[name]), row[grid]), []).append(row)
    total = lambda rows, column: sum(number(row[column]) for row in rows)
    whole = total(launches, duration)
    print(f"{len(launches)} launches, {whole / 1e3:.0f} us of kernels; the first five of {len(kinds)}, by their time in all:\n")
    print(f"{'kernel':<44} {'grid':<16} {'launches':>8} {'us each':>9} {'% of all':>8}" + "".join(f" {h:>10}" for h, _, _ in COLUMNS))
    for (kernel, size), rows in sorted(kinds.items(), key=lambda kind: -total(kind[1], duration))[:5]:
        time, cells = total(rows, duration), ""
        for _, metric, unit in COLUMNS:
            at = place(metric)
            cells += f" {'-' if at is None else format(total(rows, at) / len(rows) / unit, '.1f'):>10}"
        size = size.replace(" ", "").strip("()")
        print(f"{kernel:<44} {size:<16} {len(rows):>8} {time / 1e3 / len(rows):>9.1f} {100 * time / max(whole, 1e-9):>8.1f}{cells}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

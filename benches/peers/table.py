#!/usr/bin/env python3
"""Joins the rows of run.sh by name: ours, theirs, ratio. Also names the machine's folder of results."""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess


def cpu():
    """The processor's model, and its widest vectors."""
    model, flags = platform.processor() or platform.machine(), ""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        model = re.search(r"model name\s*:\s*(.+)", text)[1]
        flags = re.search(r"flags\s*:\s*(.+)", text)[1]
    except (OSError, TypeError):
        pass
    return model, "avx512" if "avx512f" in flags else "avx2" if "avx2" in flags else ""


def folder(name):
    if not name:
        model, vectors = cpu()
        words = [re.sub(r"[^a-z0-9]+", "-", w.lower()).strip("-") for w in (model, vectors, f"{os.cpu_count()}cores")]
        name = "-".join(w for w in words if w)
    return pathlib.Path("benches/results") / name


def commit():
    try:
        return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def read(raw):
    rows = []
    for path in sorted(pathlib.Path(raw).glob("*.*")):
        side, number = path.name.split(".")
        rows += [{"side": side, "round": int(number), **json.loads(line)} for line in path.read_text().splitlines()]
    return rows


def table(rows):
    print(f"{'case':<28} {'ours, ms':>26} {'theirs, ms':>26} {'ratio':>18} {'peak MB':>13}")
    print(f"{'':<28} {'fastest':>9}{'median':>9}{'cpu':>8} {'fastest':>9}{'median':>9}{'cpu':>8} "
          f"{'fast.':>6}{'med.':>6}{'cpu':>6} {'ours':>6} {'th.':>6}")
    for name in dict.fromkeys(r["bench"] for r in rows):
        least, middle, cpu, memory = {}, {}, {}, {}
        for side in ("ours", "theirs"):
            mine = [r for r in rows if r["bench"] == name and r["side"] == side]
            if not mine:
                break
            least[side] = min(r["us_min"] for r in mine) / 1e3
            middle[side] = statistics.median(r["us"] for r in mine) / 1e3
            cpu[side] = min(r.get("us_cpu", 0) for r in mine) / 1e3
            memory[side] = max(r["peak_rss_mb"] for r in mine)
        if len(least) == 2:
            a, b = "ours", "theirs"
            print(f"{name:<28} {least[a]:>9.1f}{middle[a]:>9.1f}{cpu[a]:>8.0f} {least[b]:>9.1f}{middle[b]:>9.1f}{cpu[b]:>8.0f} "
                  f"{least[a] / least[b]:>6.2f}{middle[a] / middle[b]:>6.2f}{cpu[a] / max(cpu[b], 1e-9):>6.2f} "
                  f"{memory[a]:>6.0f} {memory[b]:>6.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", nargs="?", const="", help="print the folder of this machine's results")
    parser.add_argument("--raw", help="folder with ours.ROUND and theirs.ROUND")
    parser.add_argument("--out", help="where the joined rows go; without --raw the rows to show")
    parser.add_argument("--note", default="", help="what else the machine was doing")
    args = parser.parse_args()
    if args.dir is not None:
        return print(folder(args.dir))
    if not args.raw:
        rows = [json.loads(line) for line in pathlib.Path(args.out).read_text().splitlines()]
        return table([r for r in rows if "side" in r])
    rows = read(args.raw)
    head = {"date": datetime.date.today().isoformat(), "cpu": cpu()[0], "cores": os.cpu_count(), "commit": commit(),
            "system": platform.platform(), "note": args.note}
    pathlib.Path(args.out).write_text("".join(json.dumps(r) + "\n" for r in [head, *rows]))
    table(rows)


if __name__ == "__main__":
    main()

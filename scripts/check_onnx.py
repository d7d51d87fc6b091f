#!/usr/bin/env python3
"""Asks onnxruntime whether the networks in our ONNX files answer as ours do: scripts/check_onnx.py

The test program `onnx` writes a thin bottleneck network, a ResNet-18, 34 and 50 with pictures and our logits beside each; here onnx checks
the files, and onnxruntime's logits may differ by 1e-4. Needs cargo, and onnx and onnxruntime: where this Python lacks them they are
fetched with pip into a virtual environment of a temporary folder. Where that can't be, the check is skipped, and says so. Nothing is
left behind but cargo's target folder.
"""
import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

MOST = 1e-4
root = pathlib.Path(__file__).resolve().parent.parent


def main():
    with tempfile.TemporaryDirectory() as folder:
        if all(importlib.util.find_spec(name) for name in ("numpy", "onnx", "onnxruntime")):
            return check(pathlib.Path(folder))
        python = f"{folder}/venv/bin/python"
        steps = [[sys.executable, "-m", "venv", f"{folder}/venv"],
                 [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "onnx", "onnxruntime"]]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:]
                print(f"skipped: onnxruntime can't be fetched here ({' '.join(step[1:3])}: {''.join(last)})")
                return 0
        return subprocess.run([python, __file__]).returncode


def tensors(path):
    """The f32 tensors of a safetensors file."""
    import numpy
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, data = json.loads(data[8:8 + length]), data[8 + length:]
    span = lambda entry: data[slice(*entry["data_offsets"])]
    return {name: numpy.frombuffer(span(entry), "<f4").reshape(entry["shape"]) for name, entry in header.items()}


def check(folder):
    import numpy
    import onnx
    import onnxruntime
    subprocess.run(["cargo", "test", "--quiet", "--features", "onnx", "--test", "onnx"], cwd=root, check=True,
                   env={**os.environ, "ONECYCLE_ONNX": str(folder)})
    files = sorted(folder.glob("*.onnx"))
    worst = 0.0
    for file in files:
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        ours = tensors(file.with_suffix(".safetensors"))
        (logits,) = session.run(None, {"x": ours["x"]})
        assert logits.shape == ours["logits"].shape, (file.name, logits.shape, ours["logits"].shape)
        off = float(numpy.abs(logits - ours["logits"]).max())
        largest = float(numpy.abs(ours["logits"]).max())
        print(f"{file.stem}: opset {model.opset_import[0].version}, {file.stat().st_size / 1e6:.1f} MB, x {list(ours['x'].shape)}: "
              f"off by {off:.1e} of {largest:.2f}")
        worst = max(worst, off if off == off else float("inf"))
    assert len(files) >= 4, files
    print(f"onnxruntime {onnxruntime.__version__}: off by {worst:.1e} at most, {MOST:.0e} is allowed")
    return 0 if worst < MOST else 1


if __name__ == "__main__":
    sys.exit(main())

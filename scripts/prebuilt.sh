#!/usr/bin/env bash
# Makes kernels/prebuilt/*.ptx anew, with the pinned NVRTC: ./scripts/prebuilt.sh
#
# These files let a machine with a driver and nothing else use its GPU. Every change of a kernel or of a header changes some of them;
# `cargo test --test kernels` says when they are out of date. The same sources give the same bytes everywhere.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/nvrtc.sh
# The build script compiles the kernels, and on this word writes them there too. It has done so even where the crate itself doesn't
# compile at the moment.
NVRTC_LIB=$PWD/.nvrtc/nvidia/cuda_nvrtc/lib ONECYCLE_PREBUILT=write cargo check --quiet --lib --no-default-features
du -ch kernels/prebuilt/*.ptx

#!/usr/bin/env bash
# Fetches NVIDIA's compiler library (NVRTC) in the pinned version into .nvrtc/, where the build finds it: ./scripts/nvrtc.sh
#
# 85 MB from PyPI, 110 MB on the disk. Needs python3 with pip; or curl, sha256sum and one of unzip and python3. Nothing is installed
# outside this folder. The library is under NVIDIA's licence (in the package) and is no part of this project.
set -euo pipefail
cd "$(dirname "$0")/.."

version=12.9.86
package=nvidia-cuda-nvrtc-cu12
sha256=210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4
url=https://files.pythonhosted.org/packages/b8/85/e4af82cc9202023862090bfca4ea827d533329e925c758f0cde964cb54b7/nvidia_cuda_nvrtc_cu12-$version-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl

is_there() { # FOLDER: true when the folder holds all of that version
    grep -qx "Version: $version" "$1/${package//-/_}-$version.dist-info/METADATA" 2>/dev/null &&
        [ -s "$1/nvidia/cuda_nvrtc/lib/libnvrtc.so.12" ] &&
        [ -s "$1/nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.${version%.*}" ]
}

if is_there .nvrtc; then
    echo "NVRTC $version is in .nvrtc/ already"
    exit 0
fi
if [ "$(uname -s) $(uname -m)" != "Linux x86_64" ]; then
    echo "NVRTC $version is fetched for Linux on x86-64 only; elsewhere the build uses kernels/prebuilt/" >&2
    exit 1
fi

# Beside its place, on the same disk: what is moved there at the end is whole.
mkdir -p .nvrtc
work=$(mktemp -d .nvrtc/fetching.XXXXXX)
trap 'rm -rf "$work"' EXIT

with_pip() {
    python3 -m pip --version >/dev/null 2>&1 || return 1
    echo "$package==$version --hash=sha256:$sha256" >"$work/requirements"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --target "$work/package" -r "$work/requirements"
}

with_curl() {
    curl --proto '=https' --tlsv1.2 -fsSL --retry 3 -o "$work/wheel.zip" "$url"
    echo "$sha256  $work/wheel.zip" | sha256sum --check --quiet
    if command -v unzip >/dev/null; then
        unzip -q "$work/wheel.zip" -d "$work/package"
    else
        python3 -m zipfile -e "$work/wheel.zip" "$work/package"
    fi
}

echo "fetching NVRTC $version (85 MB)"
if ! with_pip; then
    echo "without pip, from $url"
    rm -rf "$work/package"
    (set -e; with_curl)
fi
# A second compiler for faster, worse code; half of the space.
rm -f "$work"/package/nvidia/cuda_nvrtc/lib/*.alt.so*
if ! is_there "$work/package"; then
    echo "what came is not NVRTC $version: $(ls "$work/package")" >&2
    exit 1
fi
rm -rf .nvrtc/nvidia .nvrtc/"${package//-/_}"-*.dist-info
mv "$work"/package/* .nvrtc/
echo "NVRTC $version is in .nvrtc/"

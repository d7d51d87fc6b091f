#!/usr/bin/env bash
# Fetches NVIDIA's compiler library (NVRTC) in the pinned version into .nvrtc/, where the build finds it: ./scripts/nvrtc.sh
#
# 85 MB from PyPI, 110 MB on the disk; and nvdisasm (5 MB), with which a test reads the machine code. Needs python3 with pip; or
# curl, sha256sum and one of unzip and python3. Nothing is installed outside this folder. Both are under NVIDIA's licence (in the
# packages) and are no part of this project.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -s) $(uname -m)" != "Linux x86_64" ]; then
    echo "NVRTC is fetched for Linux on x86-64 only; elsewhere the build uses kernels/prebuilt/" >&2
    exit 1
fi

work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

with_pip() { # PACKAGE VERSION SHA256
    python3 -m pip --version >/dev/null 2>&1 || return 1
    echo "$1==$2 --hash=sha256:$3" >"$work/requirements"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --target "$work/package" -r "$work/requirements"
}

with_curl() { # SHA256 URL
    curl --proto '=https' --tlsv1.2 -fsSL --retry 3 -o "$work/wheel.zip" "$2"
    echo "$1  $work/wheel.zip" | sha256sum --check --quiet
    if command -v unzip >/dev/null; then
        unzip -q "$work/wheel.zip" -d "$work/package"
    else
        python3 -m zipfile -e "$work/wheel.zip" "$work/package"
    fi
}

is_there() { # FOLDER PACKAGE VERSION FILE..: true when the folder holds all of that version
    local folder=$1 file
    grep -qx "Version: $3" "$folder/${2//-/_}-$3.dist-info/METADATA" 2>/dev/null || return 1
    for file in "${@:4}"; do
        [ -s "$folder/$file" ] || return 1
    done
}

fetch() { # PACKAGE VERSION SHA256 URL FILE..
    local package=$1 version=$2 sha256=$3 url=$4
    local files=("${@:5}")
    if is_there .nvrtc "$package" "$version" "${files[@]}"; then
        echo "$package $version is in .nvrtc/ already"
        return
    fi
    echo "fetching $package $version"
    # Beside its place, on the same disk: what is moved there at the end is whole.
    mkdir -p .nvrtc
    work=${work:-$(mktemp -d .nvrtc/fetching.XXXXXX)}
    rm -rf "$work/package"
    if ! with_pip "$package" "$version" "$sha256"; then
        echo "without pip, from $url"
        rm -rf "$work/package"
        with_curl "$sha256" "$url"
    fi
    # A second compiler for faster, worse code; half of the space.
    rm -f "$work"/package/nvidia/*/lib/*.alt.so*
    if ! is_there "$work/package" "$package" "$version" "${files[@]}"; then
        echo "what came is not $package $version: $(ls "$work/package")" >&2
        exit 1
    fi
    local folder
    rm -rf .nvrtc/"${package//-/_}"-*.dist-info
    mkdir -p .nvrtc/nvidia
    for folder in "$work"/package/nvidia/*/; do
        rm -rf ".nvrtc/nvidia/$(basename "$folder")"
        mv "$folder" .nvrtc/nvidia/
    done
    # Last: it says that all is there.
    mv "$work"/package/*.dist-info .nvrtc/
}

fetch nvidia-cuda-nvrtc-cu12 12.9.86 210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4 \
    https://files.pythonhosted.org/packages/b8/85/e4af82cc9202023862090bfca4ea827d533329e925c758f0cde964cb54b7/nvidia_cuda_nvrtc_cu12-12.9.86-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl \
    nvidia/cuda_nvrtc/lib/libnvrtc.so.12 nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.9
fetch nvidia-cuda-nvdisasm 13.2.86 53606e719ecae07a2335f95902d5a1393a0cc1c317499ee7ffcf628a44385f2c \
    https://files.pythonhosted.org/packages/b2/99/754bd821ec8557ae95192c0fc397c1df47be79e983e4458dc16b26310313/nvidia_cuda_nvdisasm-13.2.86-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl \
    nvidia/cu13/bin/nvdisasm
chmod +x .nvrtc/nvidia/cu13/bin/nvdisasm

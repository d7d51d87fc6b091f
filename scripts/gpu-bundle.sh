#!/usr/bin/env bash
# Packs what a machine with a GPU has to run into one folder: ./scripts/gpu-bundle.sh [DIR]
#
# The folder (default target/gpu-bundle) needs nothing but an x86-64 Linux with NVIDIA's driver: no Rust, no C++ compiler, no CUDA
# toolkit. It holds the tests, the benches and the program, the recordings that the tests compare with, a few photographs, PyTorch's
# side of the benches, and run.sh, which does it all and writes results.json and table.md.
#
#   PROFILE=dev ./scripts/gpu-bundle.sh      from what `cargo test` has built (default: release)
#   PHOTOS=DIR ./scripts/gpu-bundle.sh       other photographs, in a folder for each class
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${1:-target/gpu-bundle}
profile=${PROFILE:-release}
photos=${PHOTOS:-../shared/clothing/validation}
# What is carried to such machines has limits, and glibc 2.34 is what was current in 2021.
most_mb=60
newest_glibc=2.34

build() { # ARGUMENTS..: builds, and prints "KIND PATH" of each program: bin, test, bench, lib
    cargo "$@" --profile "$profile" --message-format=json-render-diagnostics |
        sed -n 's/.*"target":{"kind":\["\([a-z]*\)"\][^}]*}.*"executable":"\([^"]*\)".*/\1 \2/p'
}

rm -rf "$dir"
mkdir -p "$dir/bin" "$dir/peers" "$dir/fixtures"
# The program beside the tests, in one command: by itself cargo would build all packages once more, with other features.
made=$(build build --bin onecycle --test bundle --bench bundle; build test --no-run --lib)
put() { # KIND AS
    local path
    path=$(awk -v kind="$1" '$1 == kind { path = $2 } END { print path }' <<<"$made")
    [ -n "$path" ] || { echo "cargo built no $2" >&2; exit 1; }
    strip -o "$dir/bin/$2" "$path"
}
put bin onecycle
put test tests
put lib unit-tests
put bench bench

cp -R tests/fixtures/. "$dir/fixtures/"
cp benches/peers/torch_gpu.py benches/peers/join.py "$dir/peers/"
cp benches/predict.py scripts/bundle/run.sh scripts/bundle/slowest.py "$dir/"
# Which state of each kernel this is, by the hash that kernels/prebuilt/ carries.
for file in kernels/prebuilt/*.compute_80.ptx; do
    name=${file##*/}
    echo "${name%%.*} $(sed -n '1s,^// src-sha256 ,,p' "$file")"
done >"$dir/kernels.txt"
sha256sum kernels/prim.cuh | cut -d' ' -f1 >"$dir/prim.txt"
{
    echo "commit $(git rev-parse HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ' with changes')"
    echo "built $(date -u +%Y-%m-%dT%H:%M:%SZ)"
    rustc --version
} >"$dir/built.txt"

# Six small photographs of each class; without any, run.sh takes the quickstart's pictures.
if [ -d "$photos" ]; then
    for class in "$photos"/*/; do
        mkdir -p "$dir/photos/$(basename "$class")"
        # Sorted by size and name, so that it's the same ones everywhere.
        find "$class" -maxdepth 1 -name '*.jpg' -printf '%s %p\n' | sort -n -k1,1 -k2 | sed -n '11,16s/^[0-9]* //p' |
            while IFS= read -r photo; do cp "$photo" "$dir/photos/$(basename "$class")/"; done
    done
fi

fault=0
for program in "$dir"/bin/*; do
    newest=$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -1)
    if [ "$(printf '%s\n' "$newest" "$newest_glibc" | sort -V | tail -1)" != "$newest_glibc" ]; then
        echo "$program needs glibc $newest; build on a system with at most $newest_glibc" >&2
        fault=1
    fi
    if objdump -p "$program" | grep -q 'NEEDED.*stdc++'; then
        echo "$program needs the machine's libstdc++" >&2
        fault=1
    fi
done
# Most of a program is text and the kernels in several forms: packed, a quarter of it.
gzip -9 -n "$dir"/bin/*
du -h "$dir"/bin/* | sort -h
mb=$(du -sm --apparent-size "$dir" | cut -f1)
echo "$dir: $mb MB (at most $most_mb)"
[ "$mb" -le "$most_mb" ] || { echo "it is too large" >&2; fault=1; }
exit $fault

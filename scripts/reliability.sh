#!/usr/bin/env bash
# The tests of exact resume with their full counts: 200 kills at random moments, 1,200 damaged checkpoints, a start from every batch.
# Prints one line for each promise; a failure ends it. About five minutes on two cores.
#
#   scripts/reliability.sh             prints
#   scripts/reliability.sh --record    and writes benches/results/reliability.md
set -euo pipefail
cd "$(dirname "$0")/.."
export ONECYCLE_KILLS=${ONECYCLE_KILLS:-200} ONECYCLE_DAMAGES=${ONECYCLE_DAMAGES:-1200}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# One thread: the children are to be killed by us, not starved by each other.
cargo test --test resume --test cli_resume -- --nocapture --test-threads=1 2>&1 | tee "$log" | grep -oE 'promise: .*|^skipped: .*|^test result: .*|.*panicked.*' || true
grep -q 'test result: FAILED\|error: ' "$log" && { tail -40 "$log"; exit 1; }

[ "${1:-}" = --record ] || exit 0
{
    cat <<'TEXT'
# Fits that survive

What `scripts/reliability.sh` printed. A job is a small network on the processor, trained for two epochs; "the same" is bit for bit: weights, statistics, the optimizer's
averages, losses, the table.

TEXT
    echo "| promise | result |"
    echo "|---|---|"
    sed -n 's/.*promise: \(.*\): \([^:]*\)$/| \1 | \2 |/p' "$log"
    echo
    echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(uname -sr), $(date -u +%F), commit $(git rev-parse --short HEAD)."
} >benches/results/reliability.md
cat benches/results/reliability.md

#!/usr/bin/env bash
# Ours and PyTorch's, or Pillow's and fastai's, in turns on one machine, joined into one table.
#
#   benches/peers/run.sh [ROUNDS] [CASE...]          training steps and predictions
#   benches/peers/run.sh [ROUNDS] loader [CASE...]   from file to batch, on photographs that are drawn first
#   PYTHON=~/venv/bin/python MACHINE=my-laptop NOTE="nothing else ran" benches/peers/run.sh 5 step/
#
# Without PYTHON a virtual environment is made in benches/peers/.venv (torch, torchvision, fastai). Runs are interleaved case by
# case because machines warm up, throttle and have neighbours: what slows one side in a round slows the other. Rows go to
# benches/results/MACHINE/steps-Nthreads.jsonl or loader.jsonl, one JSON object each, with `side` and `round`; the table shows the fastest run of all
# rounds, the median of the rounds' medians, and the least processor time of a run (all threads together: with several threads
# it also counts the spinning of those that wait; ONECYCLE_THREADS=1 makes it the fairest number on a crowded machine).
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
shift || true
here=benches/peers
if [ -z "${PYTHON:-}" ]; then
    PYTHON=$here/.venv/bin/python
    if [ ! -x "$PYTHON" ]; then
        python3 -m venv $here/.venv
        $here/.venv/bin/pip install --quiet torch torchvision fastai
    fi
fi
threads=${ONECYCLE_THREADS:-$(nproc)}
export ONECYCLE_THREADS=$threads OMP_NUM_THREADS=$threads
what=step theirs=("$here/torch_steps.py" --threads "$threads") file=steps-${threads}threads.jsonl
if [ "${1:-}" = loader ]; then
    shift
    what=loader file=loader.jsonl
    export ONECYCLE_PHOTOS=${ONECYCLE_PHOTOS:-target/photos}
    theirs=("$here/pillow_photos.py" time "$ONECYCLE_PHOTOS")
    [ -d "$ONECYCLE_PHOTOS" ] || "$PYTHON" $here/pillow_photos.py make "$ONECYCLE_PHOTOS"
fi
cases=("$@")
if [ ${#cases[@]} -eq 0 ] && [ $what = loader ]; then
    cases=("loader/decode, 1 thread" "loader/Resize(460), 1 thread" "loader/decode, Resize(460), 1 thread")
    cases+=("loader/whole, Resize(460), 1 workers" "loader/whole, Resize(460), 2 workers")
elif [ ${#cases[@]} -eq 0 ]; then
    for arch in "resnet18 N16 64px" "resnet18 N16 224px" "resnet34 N16 224px" "resnet50 N8 224px"; do
        cases+=("step/$arch" "infer/$arch")
    done
fi

ours=$(cargo bench --bench $what --no-run --message-format=json ${CARGO_FLAGS:-} 2>/dev/null |
    "$PYTHON" -c 'import json,sys
rows = [json.loads(l) for l in sys.stdin if l.startswith("{")]
print(next(r["executable"] for r in rows if r.get("executable") and r["target"]["name"] == sys.argv[1]))' $what)

out=$("$PYTHON" $here/table.py --dir "${MACHINE:-}")
mkdir -p "$out"
raw=$(mktemp -d)
trap 'rm -rf "$raw"' EXIT
for round in $(seq "$rounds"); do
    for case in "${cases[@]}"; do
        # One process per case, so that each peak of memory is its own.
        "$ours" --device cpu "$case" --json "$raw/ours.$round" >/dev/null
        "$PYTHON" "${theirs[@]}" "$case" --json "$raw/theirs.$round" >/dev/null
    done
    echo "round $round of $rounds done" >&2
done
"$PYTHON" $here/table.py --raw "$raw" --out "$out/$file" --note "${NOTE:-}"

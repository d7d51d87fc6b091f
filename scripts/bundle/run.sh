#!/usr/bin/env bash
# What this machine's GPU has to show: ./run.sh [--out DIR] [STAGE...]
#
#   info         the machine: system, driver, GPU, what `onecycle doctor` says
#   selftest     each primitive of the kernels by itself, and a recording of what the GPU does
#   correctness  the kernels against the processor and against PyTorch's recordings, training to the same bits twice and resumed
#   sanitizer    compute-sanitizer's four tools over the operations' tests
#   bench        our operations and training steps
#   counters     what the five slowest kernels of a training step do to memory and tensor cores, by NVIDIA's profiler (ncu)
#   train        the quickstart, and a ResNet-34 on photographs
#   peer         the same steps and operations in PyTorch
#
# All of them without names. Each gets at most 10 minutes (LIMIT seconds), and a failure doesn't keep the next from running. DIR (default:
# $OUT, else ./results) gets a log for each stage, results.json and table.md; stages of several calls with one DIR are put together.
# Where there is no GPU the stages say what is missing, and the parts that run in the emulator do run. The GPU's settings are read
# and never changed. The exit status is 1 if something failed; what is missing is no failure.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
all=(info selftest correctness sanitizer bench counters train peer)
python=${PYTHON:-python3}
out=${OUT:-results}
stages=()
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=${2:?--out needs a folder}; shift ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
        *)
            case " ${all[*]} " in
                *" $1 "*) stages+=("$1") ;;
                *) echo "there is no stage $1; there are: ${all[*]}" >&2; exit 2 ;;
            esac ;;
    esac
    shift
done
[ ${#stages[@]} -gt 0 ] || stages=("${all[@]}")
mkdir -p "$out/parts" || exit 2
out=$(cd "$out" && pwd)
# The programs travel packed. What comes back from the machine is the results without them.
bin=$out/bin
mkdir -p "$bin"
trap 'rm -rf "$bin"' EXIT
for packed in "$here"/bin/*.gz; do
    name=$(basename "$packed" .gz)
    gzip -dc "$packed" >"$bin/$name"
    chmod +x "$bin/$name"
done
limit=${LIMIT:-570}
export ONECYCLE_FIXTURES=$here/fixtures RUST_BACKTRACE=0

# ------------------------------------------------------------------------------------------------------------------ small tools
json() { # TEXT..: as a JSON string
    printf '%s' "$*" | awk 'BEGIN { printf "\"" }
        NR > 1 { printf "\\n" }
        { gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); gsub(/[\001-\037]/, ""); printf "%s", $0 }
        END { printf "\"" }'
}
say() { echo "$*" | tee -a "$log"; }
limited() { # [-s SECONDS] COMMAND..: within what is left of the stage's time, or within SECONDS
    local seconds=$((deadline - SECONDS))
    if [ "$1" = -s ]; then
        [ "$2" -ge $seconds ] || seconds=$2
        shift 2
    fi
    if [ $seconds -lt 1 ]; then
        say "no time is left for: ${*##*/}"
        return 124
    fi
    timeout -k 10 $seconds "$@"
}
failed() { # WHAT..: the stage has failed, and goes on
    outcome=failed
    note+="${note:+; }$*"
    say "FAILED: $*"
}
missing() { # WHAT..: a part of the stage can't run here
    [ "$outcome" != passed ] || outcome=missing
    note+="${note:+; }$*"
    say "missing: $*"
}
# The program itself says whether it can use a GPU, in its own words if not.
find_gpu() {
    gpu='' driver='' reason=''
    if reason=$(ONECYCLE_BENCH=ops timeout -k 10 60 "$bin/bench" --device cuda --tiny no-such-case 2>&1); then
        reason=''
        gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
        driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)
        gpu=${gpu:-unnamed GPU}
    else
        reason=$(printf '%s' "$reason" | tail -1)
    fi
}
need_gpu() {
    [ -n "$gpu" ] || { missing "a GPU ($reason)"; return 1; }
}

# tests NAME FILTER..: runs tests of bin/tests; a row for each. The log is kept, and what was skipped and why stands in NAME.skipped.
tests() {
    local name=$1 status
    shift
    limited "$bin/tests" "$@" >"$out/$name.log" 2>"$out/$name.skipped"
    status=$?
    echo $status >"$out/$name.status"
    # "test a::b ... ok" in one line, or in two where the test itself wrote something between.
    awk '/^test .* \.\.\. / { name = $2 } name != "" && /(ok|FAILED|ignored)$/ { print name, $NF; name = "" }' "$out/$name.log" >"$out/$name.tests"
    rows_of_tests+=("$out/$name.tests")
    local good bad
    good=$(grep -c ' ok$' "$out/$name.tests")
    bad=$(grep -c ' FAILED$' "$out/$name.tests")
    say "$name: $good passed, $bad failed$([ $status = 124 ] && echo ', and then the time was over')"
    sed -n 's/^skipped: /  skipped: /p' "$out/$name.skipped" | sort -u | cut -c1-300 | while IFS= read -r line; do say "$line"; done
    if [ $status != 0 ]; then
        failed "$name (status $status$([ "$bad" = 0 ] || echo ": $(awk '$2 == "FAILED" { print $1 }' "$out/$name.tests" | tr '\n' ' ')"))"
        # What failed says why, at the end of the log.
        sed -n '/^failures:/,$p' "$out/$name.log" | head -60
    elif [ "$good" = 0 ]; then
        failed "$name: no test has run"
    fi
}

# ---------------------------------------------------------------------------------------------------------------------- the stages
info() {
    {
        cat "$here/built.txt"
        uname -srm
        [ ! -r /etc/os-release ] || sed -n 's/^PRETTY_NAME=//p' /etc/os-release
        echo "$(nproc) processors, $(awk '/MemTotal/ { printf "%d MB", $2 / 1024 }' /proc/meminfo)"
        sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1
    } | tee -a "$log"
    if command -v nvidia-smi >/dev/null; then
        local fields=index,name,driver_version,memory.total,pstate,clocks.sm,clocks.mem,power.limit,temperature.gpu,ecc.mode.current,mig.mode.current
        limited nvidia-smi --query-gpu=$fields --format=csv >"$out/nvidia-smi.csv" 2>&1 || failed "nvidia-smi"
        cat "$out/nvidia-smi.csv" | tee -a "$log"
    else
        missing "nvidia-smi"
    fi
    limited "$bin/onecycle" doctor --json >"$out/doctor.json" 2>"$out/doctor.err"
    case $? in
        0 | 1) cat "$out/doctor.json" >>"$log" ;;
        2) missing "onecycle doctor ($(head -1 "$out/doctor.err"))" ;;
        *) failed "onecycle doctor: $(tail -1 "$out/doctor.err")" ;;
    esac
    [ -n "$gpu" ] && say "GPU: $gpu, driver $driver" || missing "a GPU ($reason)"
}

selftest() {
    [ -z "$gpu" ] || export ONECYCLE_RECORD=$out/ptx
    tests selftest primitives::
    unset ONECYCLE_RECORD
    if [ -n "$gpu" ]; then
        mkdir -p "$out/ptx"
        say "recorded $(find "$out/ptx" -name '*.bin' | wc -l) primitives in ptx/: they go to tests/fixtures/ptx/"
        { echo "gpu $gpu"; echo "driver $driver"; echo "date $(date -u +%Y-%m-%d)"; cat "$here/built.txt"; } >"$out/ptx/recorded.txt"
    else
        missing "a GPU ($reason)"
    fi
}

correctness() {
    if [ -n "$gpu" ]; then
        # The emulator's part was run where the bundle was made.
        export ONECYCLE_EMULATOR=off
        tests operations operations::
        tests fused fused::
        tests training training::
        tests graph graph::
        tests pytorch pytorch::
        tests networks networks::
        tests augment augment::
        tests resume resume::a_fit_goes_on
        unset ONECYCLE_EMULATOR
        limited "$bin/unit-tests" nvidia --test-threads=1 >"$out/driver.log" 2>&1 || failed "the driver's own test: $(tail -3 "$out/driver.log" | tr '\n' ' ')"
        grep '^test result\|^skipped' "$out/driver.log" | tee -a "$log"
        verified
    else
        # The operations that touch every mechanism; all of them take minutes here and have run where the bundle was made.
        tests emulator operations::emulator::relu operations::emulator::linear operations::emulator::rows operations::emulator::dropout \
            operations::emulator_misuse training::emulator_and_rust augment::
        missing "a GPU ($reason)"
    fi
}

# What kernels/verified.json may say of this GPU. A kernel file is verified when the tests of its name have run here and passed. One
# without such tests needs them all: a test sees to it that together they launch every kernel. A primitive is verified when the
# emulator did in all of its cases what the GPU did.
verified() {
    local file=$out/verified.json first=1 name hash names each
    "$bin/tests" --list 2>/dev/null | sed -n 's/: test$//p' >"$out/tests.list"
    note_of() { # NAME HASH: an entry
        [ $first = 1 ] || printf ','
        first=0
        printf '\n    %s: {"source": %s, "gpu": %s, "driver": %s, "date": "%s"}' "$(json "$1")" "$(json "$2")" "$(json "$gpu")" "$(json "$driver")" "$(date -u +%Y-%m-%d)"
    }
    {
        printf '{\n  "kernels": {'
        while read -r name hash; do
            case $name in
                conv2d) names='operations::emulator::conv2d operations::emulator_rungs_of_the_convolution' ;;
                conv2d_taps) names='operations::emulator_rungs_of_the_convolution' ;;
                conv2d_stem)
                    names='operations::emulator_rungs_of_the_convolution'
                    names+=' fused::emulator_convolutions_leave_the_statistics_of_what_they_store' ;;
                conv2d_mma | conv2d_slab)
                    names='operations::emulator_rungs_of_the_convolution operations::emulator_finishes_input_gradients'
                    names+=' operations::emulator_fusions_change_no_result'
                    names+=' fused::emulator_convolutions_leave_the_statistics_of_what_they_store' ;;
                batch_norm)
                    names='operations::emulator::batch_norm operations::emulator_fusions_change_no_result'
                    names+=' fused::emulator_notes_reach_only_whom_they_concern' ;;
                norm_pool)
                    names='operations::emulator::norm_pool operations::emulator_fusions_change_no_result'
                    names+=' fused::emulator_pooling_in_one_pass_has_the_same_bits' ;;
                optimizer_step) names=operations::emulator::optimizer ;;
                selftest) names=primitives::gpu_does_what_the_emulator_does ;;
                *) names=operations::emulator::$name ;;
            esac
            for each in $names; do
                if grep -qx "$each" "$out/tests.list"; then
                    grep -qsx "$each ok" "$out/operations.tests" "$out/fused.tests" "$out/selftest.tests" || continue 2
                else
                    [ "$(cat "$out/operations.status")" = 0 ] || continue 2
                fi
            done
            note_of "$name" "$hash"
        done <"$here/kernels.txt"
        # Steps as graphs, which are no file: all of their tests.
        [ "$(cat "$out/graph.status" 2>/dev/null)" != 0 ] || note_of graph steps
        printf '\n  },\n  "primitives": {'
        first=1
        # Cases are called NAME or NAME.TYPE.
        for name in $(ls "$out/ptx" 2>/dev/null | sed -n 's/\.bin$//p' | cut -d. -f1 | sort -u); do
            for each in "$out/ptx/$name".bin "$out/ptx/$name".*.bin; do
                [ ! -e "$each" ] || grep -qx "$(basename "$each" .bin)" "$out/ptx/agree.txt" 2>/dev/null || continue 2
            done
            note_of "$name" "$(cat "$here/prim.txt")"
        done
        printf '\n  }\n}\n'
    } >"$file"
    say "verified.json: $(grep -c '"source"' "$file") kernel files and primitives are right on this GPU; what is missing there isn't"
}

sanitizer() {
    need_gpu || return
    local tool=compute-sanitizer name each errors
    command -v $tool >/dev/null || tool=$(ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -1)
    [ -n "$tool" ] || { missing "compute-sanitizer"; return; }
    export ONECYCLE_EMULATOR=off
    for name in memcheck racecheck initcheck synccheck; do
        each=$((limit / 4))
        limited -s $each "$tool" --tool $name --error-exitcode 9 --print-limit 20 "$bin/tests" operations::emulator:: operations::emulator_rungs operations::emulator_fin operations::emulator_fus \
            --test-threads=1 >"$out/$name.log" 2>&1
        case $? in
            0) say "$name: $(grep 'ERROR SUMMARY\|RACECHECK SUMMARY' "$out/$name.log" | tail -1 | sed 's/=* *//')" ;;
            124 | 137) failed "$name: not done in $each s; $(grep -c ' \.\.\. ok$\|^ok$' "$out/$name.log") tests passed before" ;;
            *)
                errors=$(grep 'ERROR SUMMARY\|RACECHECK SUMMARY\|rror' "$out/$name.log" | tail -1 | sed 's/=* *//')
                failed "$name: $errors" ;;
        esac
    done
    unset ONECYCLE_EMULATOR
}

bench() {
    need_gpu || return
    local file what options
    rm -f "$out/bench.jsonl" "$out/tiles.jsonl"
    # What decides first: if time runs out, then among what is known to be slow. What training doesn't do goes to a file of its own, which no table
    # takes for ours.
    while read -r file what options; do
        # shellcheck disable=SC2086 # several words
        limited -s $((limit / 3)) env ONECYCLE_BENCH="$what" "$bin/bench" --device cuda $options --json "$out/$file.jsonl" </dev/null 2>&1 | tee -a "$log"
        [ "${PIPESTATUS[0]}" = 0 ] || failed "$what $options"
    done <<'END'
bench step --dtype bf16 --kernels fused
bench ops --dtype bf16 --quick --kernels fused
bench step --dtype bf16 --kernels fused --batch 128 --profile resnet34 resnet50
bench step --dtype bf16 --kernels tensor
bench step --dtype f16 --kernels fused
bench step --dtype bf16 --kernels tiled --batch 64
bench ops --dtype f32 --tf32 --batch 64 --quick
tiles ops --dtype bf16 --quick --tiles --kernels fused conv2d
END
}

# One step of a network under the profiler. It runs each kernel several times, once for some of the counters, so launches are limited.
counters() {
    need_gpu || return
    local tool=ncu known each metrics='' most=320 seconds=240
    command -v $tool >/dev/null || tool=$(ls /usr/local/cuda*/bin/ncu /opt/nvidia/nsight-compute/*/ncu 2>/dev/null | tail -1)
    [ -n "$tool" ] || { missing "ncu, NVIDIA's profiler of kernels"; return; }
    command -v "$python" >/dev/null || { missing "Python, for what ncu writes"; return; }
    # One that this version has under another name would make it refuse all.
    known=$(limited -s 60 "$tool" --query-metrics 2>/dev/null | awk '{ print $1 }')
    for each in gpu__time_duration.sum dram__bytes.sum lts__t_bytes.sum sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active \
        sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum; do
        if [ -z "$known" ] || grep -qx "${each%%.*}" <<<"$known"; then metrics+=${metrics:+,}$each; fi
    done
    # The clocks are left as they are found.
    limited -s $seconds env ONECYCLE_BENCH=step "$tool" --clock-control none --metrics "$metrics" --launch-count $most --csv --page raw \
        --print-units base "$bin/bench" --device cuda --dtype bf16 --kernels fused --once --batch 128 step/resnet18 >"$out/counters.csv" 2>"$out/counters.err"
    case $? in
        0) ;;
        124 | 137) failed "ncu: not done in $seconds s" ; return ;;
        *) failed "ncu: $(grep -h '==ERROR==' "$out/counters.csv" "$out/counters.err" | head -1)"; return ;;
    esac
    if grep -q '==ERROR==' "$out/counters.csv"; then
        missing "what ncu counts: $(grep '==ERROR==' "$out/counters.csv" | head -1)"
        return
    fi
    "$python" "$here/slowest.py" "$out/counters.csv" 2>&1 | tee -a "$log"
    [ "${PIPESTATUS[0]}" = 0 ] || failed "what ncu wrote can't be read"
}

train() {
    need_gpu || return
    # The quickstart keeps its pictures in the user's cache folder.
    export XDG_CACHE_HOME=$out/train/cache
    local start=$SECONDS photos=$out/train/photos i class photo n seconds half
    if limited "$bin/onecycle" quickstart --device cuda --overwrite --out "$out/train/quickstart" >"$out/train-quickstart.log" 2>&1; then
        grep -A30 '^epoch' "$out/train-quickstart.log" | tee -a "$log"
        say "quickstart: $((SECONDS - start)) s"
    else
        failed "quickstart: $(grep '^error' "$out/train-quickstart.log" | head -1)"
    fi
    [ -d "$here/photos" ] || { missing "photographs"; return; }
    # A few dozen photographs, each many times: for the speed, not for what is learned.
    for class in "$here"/photos/*/; do
        mkdir -p "$photos/$(basename "$class")"
        for i in $(seq 32); do
            for photo in "$class"*.jpg; do cp "$photo" "$photos/$(basename "$class")/$i-$(basename "$photo")"; done
        done
    done
    n=$(find "$photos" -name '*.jpg' | wc -l)
    for half in '' --bf16; do
        start=$SECONDS
        if limited "$bin/onecycle" train "$photos" --device cuda $half --arch resnet34 --item-size 256 --size 224 --bs 64 --epochs 4 --lr 3e-3 \
            --overwrite --out "$out/train/resnet34$half" >"$out/train-resnet34$half.log" 2>&1; then
            seconds=$((SECONDS - start))
            [ $seconds -gt 0 ] || seconds=1
            grep -A10 '^epoch' "$out/train-resnet34$half.log" | tee -a "$log"
            say "ResNet-34 ${half:-(f32)}, 224 pixels: 4 epochs over $n pictures in $seconds s, $((4 * n / seconds)) img/s with reading, validation and saving"
        else
            failed "train $half: $(grep '^error' "$out/train-resnet34$half.log" | head -1)"
        fi
    done
    rm -rf "$photos"
}

peer() {
    local options=(--json "$out/peer.jsonl") seconds
    "$python" -c 'import torch, torchvision' 2>/dev/null || { missing "PyTorch with torchvision for $python"; return; }
    rm -f "$out/peer.jsonl"
    if [ -z "$gpu" ]; then
        limited "$python" "$here/peers/torch_gpu.py" --device cpu --tiny "${options[@]}" 2>&1 | tee -a "$log"
        [ "${PIPESTATUS[0]}" = 0 ] || failed "torch_gpu.py on the processor"
        missing "a GPU ($reason)"
        return
    fi
    # It ends by itself when its seconds are over, or half a minute later where a compiler doesn't come back.
    seconds=$((limit * 6 / 10 - 40))
    limited "$python" "$here/peers/torch_gpu.py" --dtype bf16 --seconds $((seconds > 10 ? seconds : 10)) "${options[@]}" 2>&1 | tee -a "$log"
    [ "${PIPESTATUS[0]}" = 0 ] || failed "torch_gpu.py in bf16"
    seconds=$((deadline - SECONDS - 40))
    if [ $seconds -gt 10 ]; then
        limited "$python" "$here/peers/torch_gpu.py" --dtype f16 --only steps --seconds $seconds "${options[@]}" 2>&1 | tee -a "$log"
        [ "${PIPESTATUS[0]}" = 0 ] || failed "torch_gpu.py in f16"
    fi
}

# ------------------------------------------------------------------------------------------------------------------ what comes out
# Ours beside theirs, by name and type.
side_by_side() {
    [ -s "$out/bench.jsonl" ] && [ -s "$out/peer.jsonl" ] || return
    printf '\n## Ours beside PyTorch\n\nMicroseconds, both in their fastest way. A ratio under 1 means that ours is faster.\n\n'
    "$python" "$here/peers/join.py" "$out/bench.jsonl" "$out/peer.jsonl" 2>&1
}
array() { # FILE: its lines, one JSON object each, as an array
    if [ -s "$1" ]; then printf '[\n'; sed '$!s/$/,/' "$1"; printf ']'; else printf '[]'; fi
}
write_results() {
    local stage first=1
    {
        printf '{"gpu": %s, "driver": %s, "why_no_gpu": %s,\n "machine": %s,\n "built": %s,\n "stages": [' \
            "$(json "$gpu")" "$(json "$driver")" "$(json "$reason")" "$(json "$(uname -srm), $(nproc) processors")" "$(json "$(cat "$here/built.txt")")"
        for stage in "${all[@]}"; do
            [ -f "$out/parts/$stage.json" ] || continue
            [ $first = 1 ] && printf '\n' || printf ',\n'
            first=0
            cat "$out/parts/$stage.json"
        done
        printf '],\n "bench": %s,\n "peer": %s}\n' "$(array "$out/bench.jsonl")" "$(array "$out/peer.jsonl")"
    } >"$out/results.json"
    {
        printf '# %s\n\nDriver %s; %s, %s processors. %s\n\n' "${gpu:-No GPU}" "${driver:--}" "$(uname -srm)" "$(nproc)" "$(head -1 "$here/built.txt")"
        printf '| stage | outcome | seconds | |\n|---|---|---|---|\n'
        for stage in "${all[@]}"; do cat "$out/parts/$stage.line" 2>/dev/null; done
        side_by_side
        for stage in "${all[@]}"; do
            [ -f "$out/$stage.txt" ] && printf '\n## %s\n\n```text\n%s\n```\n' "$stage" "$(cat "$out/$stage.txt")"
        done
    } >"$out/table.md"
}

find_gpu
[ -z "$gpu" ] || export ONECYCLE_TEST_GPU=required
status=0
for stage in "${stages[@]}"; do
    log=$out/$stage.txt outcome=passed note='' deadline=$((SECONDS + limit)) start=$SECONDS rows_of_tests=()
    : >"$log"
    echo "== $stage"
    "$stage"
    seconds=$((SECONDS - start))
    echo "== $stage: $outcome, $seconds s"
    [ "$outcome" != failed ] || status=1
    {
        printf '  {"stage": "%s", "outcome": "%s", "seconds": %d, "note": %s, "tests": [' "$stage" "$outcome" $seconds "$(json "$note")"
        cat "${rows_of_tests[@]}" /dev/null | awk '{ printf "%s{\"name\": \"%s\", \"outcome\": \"%s\"}", (NR > 1 ? ", " : ""), $1, $2 }'
        printf ']}'
    } >"$out/parts/$stage.json"
    printf '| %s | %s | %d | %s |\n' "$stage" "$outcome" $seconds "$(printf '%s' "$note" | tr '|\n' '/ ' | cut -c1-300)" >"$out/parts/$stage.line"
    write_results
done
sed -n '/^| stage/,/^$/p' "$out/table.md"
echo "results: $out/results.json, $out/table.md"
exit $status

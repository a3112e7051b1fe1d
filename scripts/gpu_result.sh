#!/usr/bin/env bash
# The German result (docs/results.md) on a machine that one has for minutes at a time and that reaches no network.
# Every sub-command can be killed at any point and run again.
#
#   scripts/gpu_result.sh inputs [FOLDER]  where the texts are: all that the other machine lacks, in parts below 60 MiB
#   scripts/gpu_result.sh leg [SECONDS]    where the GPU is: go on for so long; status 0: complete, 75: run it again
#   scripts/gpu_result.sh keep             numbers and figures to results/: no weights, no text
#   scripts/gpu_result.sh cpu              all of it at a hundredth of the budget, for a machine without a GPU
#
# TEXTS   the folder with the two corpora (texts), EVAL the one with the tasks' test texts (TEXTS/eval)
# INPUTS  the folder of the parts (inputs); where there is none, TEXTS and EVAL are read as they are
# OUTPUTS (outputs), RESULTS (results/smollm2-135m-german), PYTHON (.venv/bin/python, else python3)
# SEEDS   (1,2,3), the first one first; ARGS further overrides for every command; the same in every leg
# ABLATIONS  which ones, in order; "" for none
set -euo pipefail
cd "$(dirname "$0")/.."

EXPERIMENT=smollm2-135m-german
INPUTS=${INPUTS:-inputs}
OUTPUTS=${OUTPUTS:-outputs}
RESULTS=${RESULTS:-results/$EXPERIMENT}
CACHE=${CACHE:-.cache/clp-transfer}
ABLATIONS=${ABLATIONS-german-embedding-tuning german-helper-size german-vocabulary}
SEEDS=${SEEDS:-1,2,3}
PART_BYTES=${PART_BYTES:-50331648} # 48 MiB
MARGIN=${MARGIN:-60}               # of a leg: composing a chain's configs, and saving what runs
LEAST=20                           # seconds for which a chain is not begun
GO_ON=75
if [ -z "${PYTHON:-}" ]; then
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; else PYTHON=python3; fi
fi
# The package may not be installed there. A killed script leaves nothing running, and nothing asks the network.
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" DIE_WITH_PARENT=1
export HF_HUB_OFFLINE=1 WANDB_MODE="${WANDB_MODE:-disabled}"
read -r -a MORE <<<"${ARGS:-}"

fail() { # message, what to do
    printf '\nError: %s\n  What to do: %s\n' "$1" "$2" >&2
    exit 2
}

texts_here() { # the overrides that say where the texts are
    TEXTS=${TEXTS:-texts}
    WHERE=("texts_dir=$TEXTS" "data_dir=${EVAL:-$TEXTS/eval}" "paths.cache=$CACHE")
}

inputs() {
    local folder=${1:-$INPUTS} place path listed
    texts_here
    listed=$("$PYTHON" -m clp_transfer.cli.inputs "experiment=$EXPERIMENT" "${WHERE[@]}" ${MORE[@]+"${MORE[@]}"})
    rm -rf "$folder.gathering"
    mkdir -p "$folder.gathering"
    while IFS=$'\t' read -r place path; do # a part's name says where it belongs: a/b.c is a@b.c.part-000
        split -b "$PART_BYTES" -d -a 3 "$path" "$folder.gathering/${place//\//@}.part-"
    done <<<"$listed"
    (cd "$folder.gathering" && sha256sum -- *.part-* >SHA256SUMS)
    rm -rf "$folder"
    mv "$folder.gathering" "$folder"
    du -h "$folder"/*
}

join_inputs() { # parts to whole files, once for the same parts
    local joined=$OUTPUTS/inputs sums name
    TEXTS=$joined/texts CACHE=$joined/cache
    EVAL=$TEXTS/eval
    sums=$(sha256sum <"$INPUTS/SHA256SUMS")
    [ "$(cat "$joined/joined" 2>/dev/null)" = "$sums" ] && return
    (cd "$INPUTS" && sha256sum --quiet -c SHA256SUMS) ||
        fail "a part in $INPUTS is missing or damaged" "copy the parts that are named above once more"
    rm -rf "$joined"
    mkdir -p "$TEXTS/eval" "$CACHE"
    cut -c67- "$INPUTS/SHA256SUMS" | sed 's/\.part-[0-9]*$//' | sort -u | while read -r name; do
        cat "$INPUTS/$name".part-* >"$joined/${name//@//}"
    done
    echo "$sums" >"$joined/joined"
}

chain() { # name, then the command: run it unless it has been done; ends the script where there is no time left
    local name=$1 left status=0
    shift
    local mark=$STATE/$name
    [ -f "$mark" ] && return
    left=$((DEADLINE - $(date +%s) - MARGIN))
    [ "$left" -ge "$LEAST" ] || go_on
    echo "== $name, $left s"
    "$PYTHON" "$1" "experiment=$EXPERIMENT" "${OVERRIDES[@]}" "${@:2}" "pipeline.seconds=$left" &
    CHILD=$!
    wait "$CHILD" || status=$?
    CHILD=
    [ "$status" = "$GO_ON" ] && go_on
    [ "$status" = 0 ] || exit "$status"
    # A task that could not be measured is tried again by the next leg.
    [ -n "$(unmeasured)" ] || touch "$mark"
}

unmeasured() { # evaluations in which a task failed
    grep -l '"error": "' "$OUTPUTS/$EXPERIMENT"/evaluations/*/results.json 2>/dev/null || true
}

go_on() {
    local name
    echo "== not complete; the same command goes on. Left:"
    for name in "${CHAINS[@]}"; do [ -f "$STATE/$name" ] || echo "   $name"; done
    exit "$GO_ON"
}

asked_to_stop() { # pass it on, wait until all is saved
    [ -z "${CHILD:-}" ] || { kill -TERM "$CHILD" 2>/dev/null || true; wait "$CHILD" || true; }
    go_on
}

machine() { # torch.compile where there is a GPU and it works there; and what to tell of the machine
    "$PYTHON" - "$STATE/machine.json" <<'END'
import json, platform, os, sys, torch
gpu, compiles = torch.cuda.is_available(), False
if gpu:
    try:
        torch.compile(lambda x: torch.tanh(x) * 2)(torch.ones(64, device="cuda")).sum().item()
        compiles = True
    except Exception as error:
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}")
about = {
    "gpu": torch.cuda.get_device_name() if gpu else None,
    "gpu_memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9) if gpu else None,
    "cuda": torch.version.cuda, "torch": torch.__version__, "python": platform.python_version(),
    "processor": platform.machine(), "cores": os.cpu_count(), "compiles": compiles,
}
with open(sys.argv[1] + ".tmp", "w") as file:
    json.dump(about, file, indent=2)
os.replace(sys.argv[1] + ".tmp", sys.argv[1])
END
}

leg() {
    local seconds=${1:-540} ablation
    COMMAND=${COMMAND:-scripts/gpu_result.sh leg}
    DEADLINE=$(($(date +%s) + seconds))
    if [ -f "$INPUTS/SHA256SUMS" ]; then join_inputs; fi
    texts_here
    OVERRIDES=("${WHERE[@]}" "paths.outputs=$OUTPUTS" ${MORE[@]+"${MORE[@]}"})
    # What is done is done for these settings.
    STATE=$OUTPUTS/$EXPERIMENT/legs/$(
        { find configs -name '*.yaml' | sort | xargs cat && echo "${OVERRIDES[@]}" "$SEEDS"; } | sha256sum | cut -c-16
    )
    mkdir -p "$STATE"
    echo "$COMMAND${ARGS:+, ARGS=\"$ARGS\"}" >"$STATE/command"
    CHAINS=(rates first-seed)
    [ "$SEEDS" = "${SEEDS%%,*}" ] || CHAINS+=(all-seeds)
    for ablation in $ABLATIONS; do CHAINS+=("$ablation"); done
    trap asked_to_stop TERM INT
    [ -f "$STATE/machine.json" ] || machine
    if ! grep -q '"compiles": true' "$STATE/machine.json"; then OVERRIDES+=(train.compile=false); fi
    # What matters most comes first. Rates that were found before need not be looked for again.
    if [ -f "$RESULTS/tuning.json" ] && [ ! -f "$OUTPUTS/$EXPERIMENT/tuning.json" ]; then
        cp "$RESULTS/tuning.json" "$OUTPUTS/$EXPERIMENT/" && touch "$STATE/rates"
    fi
    chain rates scripts/tune.py "seeds=[${SEEDS%%,*}]"
    chain first-seed scripts/reproduce.py "seeds=[${SEEDS%%,*}]"
    [ "$SEEDS" = "${SEEDS%%,*}" ] || chain all-seeds scripts/reproduce.py "seeds=[$SEEDS]"
    for ablation in $ABLATIONS; do
        chain "$ablation" scripts/ablate.py "ablation=$ablation" "seeds=[${SEEDS%%,*}]"
    done
    if [ -n "$(unmeasured)" ]; then
        echo "== complete but for tasks that could not be measured; the same command tries again:"
        unmeasured
    else
        echo "== complete"
    fi
}

keep() {
    local state
    state=$(ls -td "$OUTPUTS/$EXPERIMENT"/legs/*/ 2>/dev/null | head -1)
    [ -n "$state" ] || fail "there is nothing to keep below $OUTPUTS/$EXPERIMENT" "run scripts/gpu_result.sh leg first"
    "$PYTHON" -m clp_transfer.report.publish "$OUTPUTS/$EXPERIMENT" "$RESULTS" \
        "$state/machine.json" "$(cat "$state/command")"
}

case ${1:-} in
inputs) shift && inputs "$@" ;;
leg) shift && leg "$@" ;;
keep) keep ;;
cpu)
    OUTPUTS=$OUTPUTS/hundredth MORE=("+scale=hundredth" ${MORE[@]+"${MORE[@]}"})
    COMMAND="scripts/gpu_result.sh cpu"
    leg 100000000
    ;;
*) sed -n '2,16p' "$0" && exit 2 ;;
esac

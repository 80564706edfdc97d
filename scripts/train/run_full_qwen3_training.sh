#!/usr/bin/env bash
# Set-up, model, then the 0.6B job, all of its output also in output/. Environment as the main launcher's, and
#   MODEL_DIR   where the model goes, and is looked for; not used where MODEL_PATH names one
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/launch.sh"

# need_prompt_files SETTING PATH-OR-LIST ARGUMENT...: exits where a file is not there, unless an argument names others.
need_prompt_files() {
    local setting=$1 paths=("$2") list word path first
    for word in "${@:3}"; do
        case $word in "$setting="* | "+$setting="* | "++$setting="*) return ;; esac
    done
    case $2 in
        \[*[\'\"]*) return ;; # with quotes: the trainer will say
        \[*) list=${2#\[} && IFS=, read -ra paths <<<"${list%\]}" ;;
    esac
    for path in "${paths[@]}"; do
        path=${path# }
        [ -f "$path" ] && continue
        [ -x "$python" ] || first="run make setup, then "
        echo "error: $setting: $path: no such file; ${first:-}make it as docs/data.md says, or set TRAIN_FILE and" \
            "VAL_FILE" >&2
        exit 2
    done
}

model_path=${MODEL_PATH:-}
export MODEL_PATH=${MODEL_PATH:-${MODEL_DIR:-}}
if [ "${DRY_RUN:-0}" = 1 ]; then exec bash "$here/run_archer2.0_qwen3_0.6b_math.sh" "$@"; fi
if [ "${DEVICE:-cuda}" = cuda ] && ! nvidia-smi -L >/dev/null 2>&1; then # minutes of set-up and download earlier
    echo "error: no NVIDIA GPU answers (nvidia-smi -L); run this where one does, or train the embedded job:" \
        "scripts/train/run_archer2.0_qwen3_tiny_cpu.sh" >&2
    exit 2
fi
need_prompt_files data.train_files "$train_file" "$@"
need_prompt_files data.val_files "$val_file" "$@"
make -C "$root" setup
[ -n "$model_path" ] || bash "$here/setup_qwen3_0.6b.sh"
log=${OUTPUT_DIR:-$root/output}/${JOB_NAME:-archer-qwen3-math-$math_experiment}.log
# not `| tee`: a signal to this process must reach the trainer, and its exit code must be ours
exec bash "$here/lib/job.sh" --log "$log" --final 2,20,21,22,23 -- bash "$here/run_archer2.0_qwen3_0.6b_math.sh" "$@"

#!/usr/bin/env bash
# Set-up, model, then the 0.6B job, all of its output also in output/. Environment as the main launcher's.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/launch.sh"
if [ "${DRY_RUN:-0}" = 1 ]; then exec bash "$here/run_archer2.0_qwen3_0.6b_math.sh" "$@"; fi
if [ "${DEVICE:-cuda}" = cuda ] && ! nvidia-smi -L >/dev/null 2>&1; then # minutes of set-up and download earlier
    echo "error: no NVIDIA GPU answers (nvidia-smi -L); run this where one does, or train the embedded job:" \
        "scripts/train/run_archer2.0_qwen3_tiny_cpu.sh" >&2
    exit 2
fi
make -C "$root" setup
[ -n "${MODEL_PATH:-}" ] || bash "$here/setup_qwen3_0.6b.sh"
log=${OUTPUT_DIR:-$root/output}/${JOB_NAME:-archer-qwen3-math-${EXPERIMENT:-v5}}.log
# not `| tee`: a signal to this process must reach the trainer, and its exit code must be ours
exec bash "$here/lib/job.sh" --log "$log" --final 2,20,21,22,23 -- bash "$here/run_archer2.0_qwen3_0.6b_math.sh" "$@"

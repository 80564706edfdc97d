#!/usr/bin/env bash
# Set-up, model, then the 0.6B job, all of its output also in output/. Environment as the main launcher's.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/lib/launch.sh"
if [ "${DRY_RUN:-0}" = 1 ]; then exec bash "$here/run_archer2.0_qwen3_0.6b_math.sh" "$@"; fi
output=${OUTPUT_DIR:-$root/output}
mkdir -p "$output"
{
    make -C "$root" setup
    [ -n "${MODEL_PATH:-}" ] || bash "$here/setup_qwen3_0.6b.sh"
    bash "$here/run_archer2.0_qwen3_0.6b_math.sh" "$@"
} 2>&1 | tee -a "$output/${JOB_NAME:-archer-qwen3-math-${EXPERIMENT:-v5}}.log"

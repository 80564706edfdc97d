#!/usr/bin/env bash
# MATH-500, four answers a question at temperature 0.8. Usage: run_eval_math500.sh TARGET... [archer evaluate's options]
#   DATA_FILE, OUTPUT_DIR   the prompt file (docs/data.md says how to make it), where results of no run go
#   DEVICE=cuda|cpu         in the place of what the machine has
#   DRY_RUN=1               print the command, start nothing
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../train/lib/launch.sh"
evaluate --data "${DATA_FILE:-$root/data/test/math500.json}" -n 4 --temperature 0.8 "$@"

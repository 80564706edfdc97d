#!/usr/bin/env bash
# The embedded job: makes a Qwen3 of about a million parameters and teaches it arithmetic on the CPU.
#   EXPERIMENT=tiny_collapse   another tiny experiment      DRY_RUN=1   print the configuration, start nothing
#   TINY_DIR, OUTPUT_DIR       where model and data are made, where the run goes
# Further arguments are Hydra overrides.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
tiny=${TINY_DIR:-}
if [ -z "$tiny" ]; then
    need_environment
    make=("$python" "$root/scripts/data/make_tiny_model.py")
    [ "${DRY_RUN:-0}" = 1 ] && make+=(--where)
    tiny=$("${make[@]}")
fi
DEVICE=cpu train "experiment=${EXPERIMENT:-tiny}" device=cpu "actor_rollout_ref.model.path=$(path_value "$tiny/model")" \
    "data.train_files=$(path_value "$tiny/train.json")" "data.val_files=$(path_value "$tiny/val.json")" \
    "trainer.output_dir=$(path_value "${OUTPUT_DIR:-$root/output}")" "$@"

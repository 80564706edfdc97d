#!/usr/bin/env bash
# Qwen3-0.6B-Base learns mathematics with GRPO on 4 GPUs. Hyperparameters: recipes/archer/config/experiment/.
#   EXPERIMENT=v3   which experiment (default: v5_mended)     DRY_RUN=1   print the configuration, start nothing
#   TRAIN_FILE, VAL_FILE, OUTPUT_DIR, DEVICE=cuda|cpu   machine facts
#   MODEL_PATH, N_GPUS   in the place of what the experiment says
# Further arguments are Hydra overrides.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
train "experiment=$math_experiment" "device=${DEVICE:-cuda}" \
    ${MODEL_PATH:+"actor_rollout_ref.model.path=$(path_value "$MODEL_PATH")"} \
    "data.train_files=$(path_value "$train_file")" "data.val_files=$(path_value "$val_file")" \
    ${N_GPUS:+"trainer.n_gpus_per_node=$N_GPUS"} \
    "trainer.output_dir=$(path_value "${OUTPUT_DIR:-$root/output}")" "$@"

#!/usr/bin/env bash
# DeepSeek-R1-Distill-Qwen-1.5B on 8 GPUs: the run that the 0.6B one derives from. Usage as the 0.6B launcher's.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
train ${EXPERIMENT:+"experiment=$EXPERIMENT"} "device=${DEVICE:-cuda}" \
    ${MODEL_PATH:+"actor_rollout_ref.model.path=$(path_value "$MODEL_PATH")"} \
    "data.train_files=$(path_value "$train_file")" "data.val_files=$(path_value "$val_file")" \
    ${N_GPUS:+"trainer.n_gpus_per_node=$N_GPUS"} \
    "trainer.output_dir=$(path_value "${OUTPUT_DIR:-$root/output}")" "$@"

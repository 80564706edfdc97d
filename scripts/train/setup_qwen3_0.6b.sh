#!/usr/bin/env bash
# Downloads Qwen3-0.6B-Base for the 0.6B job and says how to make its data.
#   MODEL_DIR   where the model goes (default: models/Qwen3-0.6B-Base of the checkout)
#   DRY_RUN=1   print what would be done as YAML, download nothing
# Further arguments go to download_hf_model.py, --revision for example.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/launch.sh"
model_dir=${MODEL_DIR:-$root/models/Qwen3-0.6B-Base}
download=("$python" "$root/scripts/data/download_hf_model.py" Qwen/Qwen3-0.6B-Base --out "$model_dir" "$@")

if [ "${DRY_RUN:-0}" = 1 ]; then
    echo "command:"
    for word in "${download[@]}"; do printf "  - '%s'\n" "${word//\'/\'\'}"; done
    exit 0
fi
need_environment
"${download[@]}"

train=$root/data/train/archer2.0-math-train.json
val=$root/data/test/aime2025.json
[ -f "$train" ] && [ -f "$val" ] && exit 0
cat <<EOT
Data still to make, from DAPO-Math-17k and AIME 2025 (docs/data.md):
  $python $root/scripts/data/convert_dataset.py dapo-math-17k.parquet --out $train
  $python $root/scripts/data/convert_dataset.py aime2025.jsonl --split test --out $val
EOT

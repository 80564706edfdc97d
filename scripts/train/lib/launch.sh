# Sourced by the launchers: where things are, and how a run is started.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
python=${VENV:-$root/.venv}/bin/python
source "$(dirname "${BASH_SOURCE[0]}")/wandb.sh"

# train OVERRIDE...: checks the environment and becomes the trainer; DRY_RUN=1 prints the configuration instead.
train() {
    if [ ! -x "$python" ]; then
        echo "error: $python does not exist; run: make -C $root setup" >&2
        exit 2
    fi
    local dry=()
    [ "${DRY_RUN:-0}" = 1 ] && dry=(--cfg job --resolve)
    load_wandb_key
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    exec "$python" -m recipes.archer.main "$@" ${dry[@]+"${dry[@]}"}
}

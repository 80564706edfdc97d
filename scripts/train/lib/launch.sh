# Sourced by the launchers: where things are, and how a run is started.
unset CDPATH # with it, cd may go elsewhere, and says so
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
python=${VENV:-$root/.venv}/bin/python
source "$(dirname "${BASH_SOURCE[0]}")/wandb.sh"
[ "${DEVICE:-}" != gpu ] || DEVICE=cuda # set-up's word

math_experiment=${EXPERIMENT:-v5_mended}
train_file=${TRAIN_FILE:-$root/data/train/archer2.0-math-train.json}
val_file=${VAL_FILE:-$root/data/test/aime2025.json}

# need_environment: exits where `make setup` has not been run.
need_environment() {
    if [ ! -x "$python" ]; then
        echo "error: $python does not exist; run: make -C $root setup" >&2
        exit 2
    fi
}

# A path is a value of the configuration, where ${...} means another setting, or a variable, key or not.
for name in root MODEL_PATH MODEL_DIR TRAIN_FILE VAL_FILE OUTPUT_DIR TINY_DIR ARCHER_CACHE XDG_CACHE_HOME HOME; do
    if [[ ${!name:-} == *'${'* ]]; then
        [ "$name" != root ] || name="the checkout's folder"
        echo "error: $name has \${ in it, which the configuration would read as a reference; use a path without" >&2
        exit 2
    fi
done

# path_value PATH: as a Hydra value, whatever characters the path has; a list, [A,B], stays one.
path_value() {
    local rest=$1 value=
    case $1 in \[*) printf '%s' "$1" && return ;; esac
    while [[ $rest == *\'* ]]; do
        value+=${rest%%\'*}$(_backslashes_at_end "${rest%%\'*}")\\\'
        rest=${rest#*\'}
    done
    printf "'%s'" "$value$rest$(_backslashes_at_end "$rest")"
}

# _backslashes_at_end TEXT: to be written again, as in front of a quotation mark Hydra reads two as one.
_backslashes_at_end() {
    local after_others=${1##*[!\\]}
    printf '%s' "$after_others"
}

# train OVERRIDE...: checks the environment and becomes the trainer; DRY_RUN=1 prints the configuration instead.
train() {
    need_environment
    [ "${DEVICE:-}" != cpu ] || export CUDA_VISIBLE_DEVICES= # a GPU that is there is left alone
    local dry=()
    [ "${DRY_RUN:-0}" = 1 ] && dry=(--cfg job --resolve)
    load_wandb_key
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    exec "$python" -P -m recipes.archer.main "$@" ${dry[@]+"${dry[@]}"}
}

# evaluate ARGUMENT...: checks the environment and becomes `archer evaluate`; DRY_RUN=1 prints the command instead.
evaluate() {
    need_environment
    [ "${DEVICE:-}" != cpu ] || export CUDA_VISIBLE_DEVICES= # a GPU that is there is left alone
    local command=("${python%/*}/archer" evaluate ${DEVICE:+--device "$DEVICE"} "$@")
    if [ "${DRY_RUN:-0}" = 1 ]; then
        printf '%q ' "${command[@]}" && echo
        return
    fi
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} OUTPUT_DIR=${OUTPUT_DIR:-$root/output}
    exec "${command[@]}"
}

# Sourced by launchers. load_wandb_key exports WANDB_API_KEY from the file that WANDB_API_KEY_FILE names.
#
#   source scripts/train/lib/wandb.sh && load_wandb_key
#
# The key must be in the environment before `ray start`, or workers on other nodes miss it. It is read by the
# shell itself: it is in no command's arguments, and `set -x` is off while it is at hand. With neither variable
# set nothing happens here; the trainer then goes offline and says so.

load_wandb_key() {
    { local traced=${-//[^x]/}; set +x; } 2>/dev/null
    local status=0
    _read_wandb_key || status=$?
    if [[ -n $traced ]]; then set -x; fi
    return "$status"
}

_read_wandb_key() {
    local file=${WANDB_API_KEY_FILE:-} mode key=
    if [[ -n ${WANDB_API_KEY:-} || -z $file ]]; then return 0; fi
    if [[ ! -r $file ]]; then
        echo "WANDB_API_KEY_FILE $file: not readable; write the key there, mode 0600" >&2
        return 2
    fi
    mode=$(stat -Lc %a -- "$file")
    if (( 8#$mode & 8#077 )); then
        echo "WANDB_API_KEY_FILE $file: others may read it ($mode): chmod 600 it" >&2
        return 2
    fi
    IFS= read -r key <"$file" || true # the last line may lack its newline
    key=${key%$'\r'}
    if [[ -z $key ]]; then
        echo "WANDB_API_KEY_FILE $file: expected one line with the key" >&2
        return 2
    fi
    export WANDB_API_KEY=$key
}

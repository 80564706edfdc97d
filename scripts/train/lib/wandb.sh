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

_KEY_LENGTH=1024

_read_wandb_key() {
    local file=${WANDB_API_KEY_FILE:-} mode key= length LC_ALL=C
    if [[ -n ${WANDB_API_KEY:-} || -z $file ]]; then return 0; fi
    if [[ ! -f $file || ! -r $file ]]; then
        echo "WANDB_API_KEY_FILE $file: not readable; write the key there, mode 0600" >&2
        return 2
    fi
    mode=$(stat -Lc %a -- "$file")
    if (( 8#$mode & 8#077 )); then
        echo "WANDB_API_KEY_FILE $file: others may read it ($mode): chmod 600 it" >&2
        return 2
    fi
    IFS= read -r -d '' -n "$_KEY_LENGTH" key <"$file" || true # all of it: what comes after a first line counts too
    length=${#key} # not the file's, where that is too long or has a NUL
    key=${key#"${key%%[![:space:]]*}"}
    key=${key%"${key##*[![:space:]]}"}
    if [[ -z $key || $key == *[^[:graph:]]* || $(stat -Lc %s -- "$file") != "$length" ]]; then
        echo "WANDB_API_KEY_FILE $file: expected one line with the key" >&2
        return 2
    fi
    export WANDB_API_KEY=$key
}

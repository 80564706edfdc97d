#!/usr/bin/env bash
# Makes .venv from a lock file, unpacks verl, and on a CPU machine builds vLLM once and keeps its wheel.
#   DEVICE=cpu|gpu      which stack (default: gpu where an NVIDIA GPU answers); cuda, the launchers' word, means gpu
#   VENV=DIR            where (default: .venv in the checkout)
#   ARCHER_CACHE=DIR    what is built and fetched once a machine (default: $XDG_CACHE_HOME/archer, ~/.cache/archer)
#   VERL_WHEEL=FILE     verl's wheel, for a machine without network
# A second run finds everything there and takes seconds.
set -euo pipefail
unset CDPATH
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${ARCHER_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/archer}
venv=${VENV:-$root/.venv}
device=${DEVICE:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
pin() { sed -n "s/^$1==\([^ ]*\).*/\1/p" "$2"; }
[ "$device" != cuda ] || device=gpu
cd "$root"
uv_version=$(pin uv requirements/uv.txt) vllm_version=$(pin vllm requirements/cpu-vllm.txt)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# need COMMAND-THAT-CHECKS "what is missing" PACKAGE...: installs as root, otherwise names the command, and $or.
need() {
    local check=$1 what=$2; shift 2
    bash -c "$check" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "$what is missing: installing $*"
        { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$@"; } >/dev/null 2>&1 || true
        bash -c "$check" >/dev/null 2>&1 && return
    fi
    die "$what is missing; install it with: sudo apt-get install -y $*${or:+, or $or}"
}

case $device in cpu|gpu) ;; *) die "DEVICE=$device is not known; use cpu or gpu" ;; esac
[ "$(uname -sm)" = "Linux x86_64" ] || die "this is $(uname -sm), the locks are for Linux x86_64; use such a machine"
lock=requirements/$device.lock
or='where apt has none: uv python install 3.11, with ~/.local/bin on PATH' \
    need 'command -v python3.11' 'python3.11 (of any origin, on PATH)' python3.11 python3.11-venv
need 'python3.11 -P -c "import venv, ensurepip"' python3.11-venv python3.11-venv
for folder in "$cache" "$(dirname "$venv")"; do
    mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] || die "$folder cannot be written; set ARCHER_CACHE and VENV to folders that can"
    needed=$([ "$device" = gpu ] && echo 16 || echo 6)
    [ -d "$venv" ] && needed=1
    free=$(($(df -Pk "$folder" | awk 'NR==2 {print $4}') / 1048576))
    [ "$free" -ge "$needed" ] || die "$folder has $free GiB free, $needed are needed; free some, or set ARCHER_CACHE and VENV to another disk"
done

exec 9>"$cache/setup.lock"
flock -n 9 || { say "waiting for another set-up on this machine"; flock 9; }

# uv, in an environment of its own
uv=$cache/uv-$uv_version/bin/uv
if [ ! -x "$uv" ]; then
    say "fetching uv $uv_version"
    rm -rf "$cache/uv-$uv_version"
    python3.11 -P -m venv "$cache/uv-$uv_version"
    "$cache/uv-$uv_version/bin/python" -P -m pip install -qq --disable-pip-version-check --only-binary :all: \
        --require-hashes -r requirements/uv.txt ||
        die "uv $uv_version could not be fetched as requirements/uv.txt has it; check the network, or pip's index"
fi

# Where torch's CPU build comes from: a local wheel that pip is configured to find, or torch's own index.
torch_source=()
torch_remedy="check the network (torch's CPU build comes from a local wheel folder, PIP_FIND_LINKS, or torch's own index)"
if [ "$device" = cpu ]; then
    torch=$(pin torch "$lock")
    for folder in ${PIP_FIND_LINKS:-} $(python3.11 -P -m pip config get global.find-links 2>/dev/null || true); do
        compgen -G "$folder/torch-$torch-cp311-*.whl" >/dev/null && torch_source=(--find-links "$folder") && break
    done
    [ ${#torch_source[@]} -gt 0 ] || torch_source=(--torch-backend cpu)
fi

# vLLM for CPU: built once a machine
wheels=$cache/wheels/vllm-$vllm_version-torch-${torch:-}-cp311-$(uname -m)
build_vllm() {
    need 'command -v g++' 'a C++ compiler' g++
    need 'echo "#include <numa.h>" | g++ -E -x c++ -' libnuma-dev libnuma-dev
    need 'test -f "$(python3.11 -P -c "import sysconfig; print(sysconfig.get_path(\"include\"))")/Python.h"' \
        'Python.h of python3.11' python3.11-dev
    rm -rf "$cache"/build.?????? # of a set-up that was killed
    work=$(mktemp -d "$cache/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "building vLLM $vllm_version for CPU (about 3 minutes on 2 cores, once a machine)"
    "$uv" venv -q --python python3.11 "$work/env"
    "$uv" pip install -q --python "$work/env/bin/python" "${torch_source[@]}" --require-hashes \
        -r requirements/cpu-build.lock ||
        die "requirements/cpu-build.lock could not be installed; $torch_remedy"
    # AVX-512 off: with it, vLLM's CMake downloads oneDNN's source
    env PATH="$work/env/bin:$PATH" VLLM_TARGET_DEVICE=cpu VLLM_CPU_DISABLE_AVX512=true \
        MAX_JOBS="${MAX_JOBS:-$(nproc)}" UV_CACHE_DIR="$work/uv" UV_LINK_MODE=copy \
        "$uv" pip install -q --python "$work/env/bin/python" --no-deps --no-binary vllm --no-build-isolation \
        --require-hashes -r requirements/cpu-vllm.txt >"$cache/build-vllm.log" 2>&1 ||
        { tail -n 20 "$cache/build-vllm.log" >&2; die "vLLM did not build; the whole log is $cache/build-vllm.log"; }
    mkdir -p "$wheels.partial"
    find "$work/uv" -name 'vllm-*.whl' -exec cp {} "$wheels.partial/" \;
    rm -rf "$wheels" && mv "$wheels.partial" "$wheels"
    rm -rf "$work"
}
if [ "$device" = cpu ] && ! compgen -G "$wheels/vllm-*.whl" >/dev/null; then build_vllm; fi

# flash-attn for a GPU: no wheel of it is published, so that CUDA 12's compiler is needed (torch's own CUDA is 12.4)
flash_attn=none
if [ "$device" = gpu ]; then
    flash_attn=left-out
    [[ $(nvcc --version 2>/dev/null) != *'release 12.'* ]] || flash_attn=built
fi

# the environment; one with flash-attn is as good where the compiler is not on PATH any more
stamp=$venv/.archer-$device
key=$(cat "$lock" requirements/"$device"-*.txt setup.py tools/setup.sh | sha256sum | cut -d' ' -f1)
made=$(cat "$stamp" 2>/dev/null || true)
if [ "$made" != "$key $flash_attn" ] && [ "$made" != "$key built" ]; then
    say "installing $lock into $venv"
    rm -f "$venv"/.archer-* # of the other device too: what it stands for is about to be replaced
    [ -x "$venv/bin/python" ] || "$uv" venv -q --python python3.11 "$venv"
    "$uv" pip sync -q --python "$venv/bin/python" ${torch_source[@]+"${torch_source[@]}"} --require-hashes "$lock" ||
        die "$lock could not be installed; $torch_remedy"
    if [ "$device" = cpu ]; then
        "$uv" pip install -q --python "$venv/bin/python" --no-deps "$wheels"/vllm-*.whl
    elif [ "$flash_attn" = built ]; then
        say "building flash-attn (some minutes)"
        # ninja, on PATH: without it one file is compiled at a time, whatever MAX_JOBS says
        PATH="$(cd "$venv/bin" && pwd):$PATH" \
            "$uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation \
            --require-hashes -r requirements/gpu-flash-attn.txt >"$cache/build-flash-attn.log" 2>&1 ||
            { tail -n 20 "$cache/build-flash-attn.log" >&2; die "flash-attn did not build; the whole log is $cache/build-flash-attn.log (MAX_JOBS=2 needs less memory)"; }
    else
        say "no CUDA 12 toolkit (nvcc) on PATH: flash-attn is left out, and with it training on a GPU; install it and run make setup again"
    fi
    "$venv/bin/python" tools/vendor_verl.py sync ${VERL_WHEEL:+--wheel "$VERL_WHEEL"}
    "$uv" pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e .
    # Bytecode of everything, now: where PYTHONDONTWRITEBYTECODE is set, or the environment cannot be written later,
    # every process would otherwise compile what it imports, half of the 25 s that vLLM's import then takes
    say "compiling bytecode"
    "$venv/bin/python" -P -m compileall -qq -j 0 -x '/site-packages/.*/tests?/' "$venv/lib" verl recipes || true # some packages ship files of Python 2
    printf '%s' "$key $flash_attn" >"$stamp"
else
    "$venv/bin/python" tools/vendor_verl.py sync ${VERL_WHEEL:+--wheel "$VERL_WHEEL"}
fi
say "ready: $venv ($device)"

#!/usr/bin/env bash
# Resolves requirements/*.in into *.lock with exact pins and hashes; those of the .txt files are kept by hand. Local wheel folders: PIP_FIND_LINKS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../requirements"
cache=${ARCHER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/archer}
uv=$(compgen -G "$cache/uv-*/bin/uv" | sort -V | tail -n 1) || { echo "lock: run make setup first" >&2; exit 1; }
source_of_torch=(--torch-backend cpu)
[ -z "${PIP_FIND_LINKS:-}" ] || source_of_torch=(--find-links "$PIP_FIND_LINKS")

resolve() {
    local name=$1; shift
    "$uv" pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes \
        --no-emit-find-links --custom-compile-command "make lock" "$@" "$name.in" -o "$name.lock"
}
resolve cpu "${source_of_torch[@]}"
resolve cpu-build "${source_of_torch[@]}"
resolve gpu --override gpu-overrides.in

# Sourced by the scripts beside it: finds Python, makes the virtual environment, installs what is pinned.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${TRAINER_VENV:-$root/.venv}

fail() {
    printf '%s\n' "error: $1" >&2
    exit 2
}

# The first of the versions on PATH that really runs: pyenv leaves names on PATH that answer "command not found".
find_python() {
    local name
    for name in python3.12 python3.11 python3.10 python3; do
        if "$name" -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

# What decides whether the environment is up to date: the declared dependencies, the pins, and where the sources are.
stamp_of() {
    printf '%s ' "$1" "$root"
    cat "$root/pyproject.toml" "$root/constraints.txt" | cksum
}

up_to_date() {
    [ -x "$venv/bin/trainer" ] && "$venv/bin/python" -c '' 2>/dev/null || return 1
    local extras
    for extras in "$@"; do
        [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$(stamp_of "$extras")" ] && return 0
    done
    return 1
}

# usable [EXTRAS]: whether nothing has to be installed. An environment with more than that serves too.
usable() {
    case "$1" in
        "") up_to_date "" vision mpi,vision dev ;;
        vision) up_to_date vision mpi,vision dev ;;
        *) up_to_date "$1" dev ;;
    esac
}

# install [EXTRAS]: makes sure that the environment has the package, and the extras where they are named.
install() {
    local extras=${1:-}
    usable "$extras" && return
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64 | Darwin-x86_64) ;;
        *) fail "MXNet 1.9.1 has wheels for x86-64 Linux and macOS only; this is $(uname -s) on $(uname -m)." ;;
    esac
    mkdir -p "$(dirname "$venv")"
    if command -v flock >/dev/null 2>&1; then
        # A second call at the same time waits, and then finds the work done.
        exec 9>"$venv.lock"
        flock 9
        usable "$extras" || install_now "$extras"
        exec 9>&-
    else
        install_now "$extras"
    fi
}

# install_now EXTRAS: the stamp is written last, so an install that was interrupted is done again.
install_now() {
    local extras=$1 python target
    target=$root${extras:+[$extras]}
    printf '%s\n' "Installing gluon-trainer${extras:+ with its $extras tools} into $venv; once, a minute or two …" >&2
    rm -f "$venv/.stamp"
    python=$(find_python)
    if command -v uv >/dev/null 2>&1; then
        "$venv/bin/python" -c '' 2>/dev/null || uv venv --quiet --clear --python "${python:->=3.10,<3.13}" "$venv" ||
            fail "uv found no Python 3.10, 3.11 or 3.12, and could not install one."
        uv pip install --quiet --python "$venv/bin/python" --constraint "$root/constraints.txt" --editable "$target"
    else
        [ -n "$python" ] || fail "Python 3.10, 3.11 or 3.12 is needed, and none is on PATH. Install one:
  Debian, Ubuntu: apt-get install python3 python3-venv    macOS: brew install python@3.12
  anywhere: pyenv install 3.12, or uv (then run this again)"
        "$venv/bin/python" -c 'import pip' 2>/dev/null || { rm -rf "$venv" && "$python" -m venv "$venv"; }
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$root/constraints.txt" --editable "$target"
    fi
    "$venv/bin/python" -c 'import trainer.mxnet' || fail "the installed MXNet cannot be imported; see above."
    stamp_of "$extras" >"$venv/.stamp"
}

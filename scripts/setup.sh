#!/bin/sh
# Makes .venv from uv.lock: finds a Python, creates the environment, puts the pinned uv into it and
# lets that install exactly what the lock file names. Run by every make target that needs it.
# PYTHON=/path/to/python chooses another Python and starts the environment anew.
set -eu
cd "$(dirname "$0")/.."
requirements=scripts/uv-requirements.txt
uv=.venv/tools/bin/uv

run() {
    printf '+ %s\n' "$*"
    "$@"
}

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        is_supported "$PYTHON" || fail "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3.13 python3; do
        if is_supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "No Python 3.11, 3.12 or 3.13 on PATH. Install one, or name it: make setup PYTHON=/path/to/python3.12"
}

create_environment() {
    run "$python" -m venv --clear .venv && return
    echo "This Python cannot put pip into an environment; trying with its own pip."
    run "$python" -m venv --clear --without-pip .venv || fail "No environment could be created in .venv."
}

# Beside the environment's own packages, where a sync leaves it alone.
install_uv() {
    if grep -q "^uv==$($uv --version 2>/dev/null | cut -d ' ' -f 2) " $requirements; then
        return
    fi
    for with_pip in .venv/bin/python "$(find_python 2>/dev/null)"; do
        if "$with_pip" -m pip --version >/dev/null 2>&1; then
            run "$with_pip" -m pip install --quiet --disable-pip-version-check --upgrade \
                --target .venv/tools --require-hashes -r $requirements
            return
        fi
    done
    fail "${with_pip:-Python} has no pip. Install it (Debian and Ubuntu: apt-get install python3-venv) and run this again."
}

if [ -z "${HOME:-}" ] || [ ! -w "$HOME" ]; then
    UV_CACHE_DIR=${UV_CACHE_DIR:-$PWD/.cache/uv}
    PIP_CACHE_DIR=${PIP_CACHE_DIR:-$PWD/.cache/pip}
    export UV_CACHE_DIR PIP_CACHE_DIR
fi
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH
export UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv

if [ -n "${PYTHON:-}" ] || ! is_supported .venv/bin/python; then
    python=$(find_python)
    create_environment
fi
install_uv
run $uv sync --frozen --python .venv/bin/python
touch .venv/.installed

#!/bin/sh
# Runs the tests on every supported Python that is installed, each in a virtual environment of its own.
set -eu
cd "$(dirname "$0")/.."
found=""
for minor in 10 11 12 13 14; do
    for candidate in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info[:2] != (3, $minor))" 2>/dev/null; then
            echo "== Python 3.$minor"
            venv=".venv-3.$minor"
            ${MAKE:-make} --no-print-directory PYTHON="$candidate" VENV="$venv" "$venv/.installed"
            "$venv/bin/python" -m pytest -q -n 4 --hypothesis-profile=thorough
            found="$found 3.$minor"
            break
        fi
    done
done
echo "tested on:${found:- no supported Python was found}"
[ -n "$found" ]

#!/bin/sh
# Run the tests on all supported versions of Python, with and without the GIL, each in its own virtual
# environment, or on some versions: `test_all.sh 3.10 3.13t`. Missing versions are built from Debian
# packages (tests/pythons/find.sh); the summary lists versions that are not available.
# TESTS and PYTEST_ARGS select the tests and set the options of pytest.
set -eu
cd "$(dirname "$0")/.."
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# cryptography, a dependency of MSAL, does not support 3.13t.
install() {
    if [ "$1" != 3.13t ]; then
        ${MAKE:-make} --no-print-directory PYTHON="$2" VENV="$3" "$3/.installed"
    elif ! [ "$3/.installed" -nt tests/pythons/without-cryptography.txt ]; then
        "$2" -m venv "$3"
        "$3/bin/python" -m pip install --quiet -r tests/pythons/without-cryptography.txt
        "$3/bin/python" -m pip install --quiet --no-deps --editable .
        touch "$3/.installed"
    fi
}

run() {
    plugin=""
    case $1 in
        3.13t) plugin="-p without_cryptography" ;;
    esac
    # Keep the GIL disabled even if an extension module would enable it.
    case $1 in
        *t) export PYTHON_GIL=0 ;;
    esac
    # shellcheck disable=SC2086 - words
    PYTHONPATH=tests/pythons "$2/bin/python" -m pytest -q ${PYTEST_ARGS:--n 4 --hypothesis-profile=thorough} \
        $plugin ${TESTS:-}
}

result() {
    echo "$1 $2" >>"$results"
}

for version in ${*:-3.10 3.11 3.12 3.13 3.14 3.13t 3.14t}; do
    if ! python=$(tests/pythons/find.sh "$version"); then
        result "$version" "not available"
        continue
    fi
    echo "== Python $version"
    venv=".venv-$version"
    install "$version" "$python" "$venv"
    if (run "$version" "$venv"); then result "$version" passed; else result "$version" FAILED; fi
done
echo "== Pythons"
cat "$results"
! grep -q FAILED "$results"

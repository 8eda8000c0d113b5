#!/bin/sh
# Prints the path of a Python, such as 3.12 or the free-threaded 3.13t: one that is installed, else
# one that is made from Debian's packages. Exits with 1 where there is none to be had.
set -eu
wanted=$1
here=$(dirname "$0")
made="${XDG_CACHE_HOME:-$HOME/.cache}/imds-identity-tests/python-$wanted"

is_wanted() {
    "$1" -c '
import sys, sysconfig
free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
sys.exit("{}.{}{}".format(*sys.version_info[:2], free_threaded) != sys.argv[1])
' "$wanted" 2>/dev/null
}

pyenv="${PYENV_ROOT:-$HOME/.pyenv}/versions"
for candidate in "python$wanted" "$pyenv/${wanted%t}".*/bin/python "$made/bin/python"; do
    if is_wanted "$candidate"; then
        command -v "$candidate"
        exit
    fi
done
echo "there is no Python $wanted here: making one from Debian's packages" >&2
mkdir -p "$made"
"$here/make.sh" "$wanted" "$made" >"$made/log" 2>&1 && is_wanted "$made/bin/python" || {
    echo "that failed: see $made/log" >&2
    exit 1
}
echo "$made/bin/python"

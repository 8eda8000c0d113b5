#!/bin/sh
# Print the path of a version of Python, such as 3.12 or the free-threaded 3.13t: an installed one, else
# one built from Debian packages. Exits with 1 if neither is available.
set -eu
version=$1
here=$(dirname "$0")
built="${XDG_CACHE_HOME:-$HOME/.cache}/imds-identity-tests/python-$version"

has_version() {
    "$1" -c '
import sys, sysconfig
free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
sys.exit("{}.{}{}".format(*sys.version_info[:2], free_threaded) != sys.argv[1])
' "$version" 2>/dev/null
}

pyenv="${PYENV_ROOT:-$HOME/.pyenv}/versions"
for candidate in "python$version" "$pyenv/${version%t}".*/bin/python "$built/bin/python"; do
    if has_version "$candidate"; then
        command -v "$candidate"
        exit
    fi
done
echo "Python $version is not installed: building it from Debian packages" >&2
mkdir -p "$built"
"$here/make.sh" "$version" "$built" >"$built/log" 2>&1 && has_version "$built/bin/python" || {
    echo "building it failed: see $built/log" >&2
    exit 1
}
echo "$built/bin/python"

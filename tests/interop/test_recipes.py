"""Each recipe of docs/recipes.md sends the identity's token to its service, over TLS."""

from __future__ import annotations

import os
import queue
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import pytest
from interop_support import require_part
from recipe_servers import (
    AmqpHandler,
    HttpHandler,
    KafkaHandler,
    RedisHandler,
    TdsHandler,
    TokenHandler,
    TokenServer,
)
from test_postgresql import free_port, run_sql, running_server

from fake_sites import Proxy, serve
from imds_identity import ManagedIdentityCredential
from imds_identity.emulator._pki.certificates import (
    Authority,
    new_ec_key,
    pem,
    server_context,
    server_names,
)
from imds_identity.emulator._pki.key_store import pem_of_key
from markdown_blocks import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop
PAGE = "docs/recipes.md"
RUNNER = Path(__file__).parent / "programs/recipe.py"
SECONDS = 60
NO_PROXY = "http://127.0.0.1:9"
POSTGRESQL = "my-server.postgres.database.azure.com"
SQL = "my-server.database.windows.net"
NAMESPACE = "my-namespace.servicebus.windows.net"


class Recipe(NamedTuple):
    """How a recipe reaches its service: through a proxy, or by a redirected host name.

    ``replaced`` is for clients in C: it is replaced by the stub's address.
    """

    host: str
    audience: str
    handler: type[TokenHandler] = HttpHandler
    replaced: str = ""
    replacement: str = ""


OPENAI = "https://cognitiveservices.azure.com"
BLOB = "my-account.blob.core.windows.net"
STORAGE = "https://storage.azure.com"
SQL_ADDRESS = (TdsHandler, f"tcp:{SQL},1433", "tcp:localhost,{port}")
RECIPES = {
    "mssql_python": Recipe(SQL, "https://database.windows.net", *SQL_ADDRESS),
    "sqlalchemy": Recipe(SQL, "https://database.windows.net", *SQL_ADDRESS),
    "redis": Recipe(
        "my-cache.westeurope.redis.azure.net", "https://redis.azure.com", RedisHandler
    ),
    "confluent_kafka": Recipe(
        NAMESPACE, f"https://{NAMESPACE}", KafkaHandler, f'"{NAMESPACE}:9093"',
        '"localhost:{port}", "ssl.ca.location": "{ca}"',
    ),
    "kafka_python": Recipe(NAMESPACE, f"https://{NAMESPACE}", KafkaHandler),
    "eventhub": Recipe(NAMESPACE, "https://eventhubs.azure.net/", AmqpHandler),
    "servicebus": Recipe(NAMESPACE, "https://servicebus.azure.net/", AmqpHandler),
    "cosmos": Recipe(
        "my-account.documents.azure.com", "https://my-account.documents.azure.com"
    ),
    "appconfiguration": Recipe("my-store.azconfig.io", "https://azconfig.io"),
    "monitor_query": Recipe("api.loganalytics.io", "https://api.loganalytics.io"),
    "monitor_exporter": Recipe(
        "westeurope-5.in.applicationinsights.azure.com", "https://monitor.azure.com/"
    ),
    "polars": Recipe(BLOB, STORAGE),
    "adlfs": Recipe(BLOB, STORAGE),
    "deltalake": Recipe(BLOB, STORAGE),
    "deltalake_exec": Recipe(BLOB, STORAGE),
    "langchain_openai": Recipe("my-resource.openai.azure.com", OPENAI),
    "langchain_azure_ai": Recipe("my-resource.services.ai.azure.com", "https://ai.azure.com"),
}  # fmt: skip
EXEC = (sys.executable, "-m", "imds_identity", "exec", "--")
WITH_A_SERVER = {"psycopg_pool", "asyncpg"}
CODE = {
    (block.title or "").removesuffix("_recipe.py"): block.text for block in blocks(PAGE, "python")
}


def test_each_recipe_is_run() -> None:
    assert set(CODE) == set(RECIPES) | WITH_A_SERVER


@contextmanager
def running(
    name: str,
    code: str,
    redirections: list[str],
    folder: Path,
    variables: dict[str, str],
    before: tuple[str, ...] = (),
) -> Iterator[subprocess.Popen[str]]:
    """Run a recipe, with a command ``before`` it; its standard error goes to a file."""
    python = require_part("recipes") / "recipes/bin/python"
    recipe = folder / f"{name}_recipe.py"
    recipe.write_text(code)
    with (
        (folder / "stderr").open("w") as errors,
        subprocess.Popen(
            [*before, python, RUNNER, recipe, *redirections],
            env={**os.environ, **variables}, cwd=folder,
            stdout=subprocess.PIPE, stderr=errors, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def authority_in(folder: Path) -> tuple[Authority, dict[str, str]]:
    """Return a certificate authority, and the variables with which clients trust it."""
    authority = Authority("recipes")
    bundle = folder / "bundle.pem"
    bundle.write_bytes(pem(authority.certificate))
    names = ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    # No client can reach another network, or the metadata service of this machine.
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NO_PROXY)
    local = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    return authority, {**dict.fromkeys(names, str(bundle)), **proxies, **local}


def odbc_driver(folder: Path) -> dict[str, str]:
    """Register the driver in mssql-python's package under the name that Microsoft's has."""
    home = require_part("recipes") / "recipes/lib"
    [driver] = home.glob("python*/site-packages/mssql_python_odbc/libs/linux/debian*/*/lib/libms*")
    (folder / "odbcinst.ini").write_text(f"[ODBC Driver 18 for SQL Server]\nDriver={driver}\n")
    [manager] = (require_part("odbc") / "odbc/usr/lib").glob("*/libodbc.so.2")
    return {"ODBCSYSINI": str(folder), "LD_LIBRARY_PATH": str(manager.parent)}


@pytest.mark.parametrize("name", RECIPES)
def test_token_reaches_the_service(name: str, imds_emulator: Emulator, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    authority, variables = authority_in(tmp_path)
    names = [recipe.host, "localhost"]
    context = server_context(authority, tmp_path, "127.0.0.1", names)
    if recipe.handler is TdsHandler:
        variables |= odbc_driver(tmp_path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    with ExitStack() as stack:
        server = TokenServer(recipe.handler, context)
        port = serve(stack, server)  # type: ignore[arg-type]
        redirections = []
        if recipe.handler is HttpHandler:
            proxy = serve(stack, Proxy({recipe.host: port}))
            variables |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{proxy}")
        else:
            redirections.append(f"{recipe.host}={port}")
        address = recipe.replacement.format(port=port, ca=variables["SSL_CERT_FILE"])
        code = CODE[name].replace(recipe.replaced, address) if recipe.replaced else CODE[name]
        before = EXEC if name.endswith("_exec") else ()
        process = stack.enter_context(
            running(name, code, redirections, tmp_path, variables, before)
        )
        token = received_token(server, process, tmp_path)
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == recipe.audience
    assert imds_emulator.token_requests[-1].status == 200


def received_token(server: TokenServer, process: subprocess.Popen[str], folder: Path) -> str:
    """Return the token that a stub receives before its client ends."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            return server.tokens.get(timeout=0.1)
        except queue.Empty:
            if process.poll() is not None and server.tokens.empty():
                break
    pytest.fail(f"no token arrived: {(folder / 'stderr').read_text()[-3000:]}")


@pytest.mark.parametrize("name", sorted(WITH_A_SERVER))
def test_token_is_the_password_of_postgresql(
    name: str, imds_emulator: Emulator, tmp_path: Path
) -> None:
    """Both the recipe and the test use the token in the shared cache."""
    authority, variables = authority_in(tmp_path)
    key = new_ec_key()
    certificate = authority.issue(key, server_names("127.0.0.1", [POSTGRESQL]))
    tls_file = tmp_path / "server.pem"
    tls_file.write_bytes(pem_of_key(key) + pem(certificate))
    credential = ManagedIdentityCredential(cache=tmp_path / "cache")
    token = credential.get_token("https://ossrdbms-aad.database.windows.net/.default").token
    variables |= {"IMDS_IDENTITY_CACHE": str(tmp_path / "cache"), "PGHOSTADDR": "127.0.0.1"}
    port = free_port()
    with running_server(port, "my-vm", tls_file=tls_file) as sockets:
        run_sql(port, sockets, f"""ALTER ROLE "my-vm" PASSWORD '{token}'""")
        redirections = [f"{POSTGRESQL}={port}"]
        variables["PGPORT"] = str(port)
        with running(name, CODE[name], redirections, tmp_path, variables) as process:
            output, _ = process.communicate(timeout=SECONDS)
    assert "my-vm" in output, (tmp_path / "stderr").read_text()[-3000:]
    assert len(imds_emulator.token_requests) == 1

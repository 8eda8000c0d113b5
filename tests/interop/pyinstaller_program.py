"""A program that PyInstaller packs: `pyinstaller_program MODE`; prints the token that it gets."""

from __future__ import annotations

import asyncio
import sys

SCOPE = "https://vault.azure.net/.default"
URL = "https://vault.azure.net/secrets"


def run_sync() -> str:
    from imds_identity import ManagedIdentityCredential

    with ManagedIdentityCredential() as credential:
        return credential.get_token(SCOPE).token


def run_async() -> str:
    from imds_identity.aio import ManagedIdentityCredential

    async def main() -> str:
        async with ManagedIdentityCredential() as credential:
            return (await credential.get_token(SCOPE)).token

    return asyncio.run(main())


def run_azure_core_transport() -> str:
    from azure.core.pipeline.transport import RequestsTransport

    from imds_identity import ManagedIdentityCredential

    with ManagedIdentityCredential(transport=RequestsTransport()) as credential:
        return credential.get_token(SCOPE).token


def run_debug_logging() -> str:
    import logging

    logging.basicConfig(level=logging.DEBUG)
    return run_sync()


def run_requests_auth() -> str:
    import requests

    from imds_identity.auth import ManagedIdentityAuth

    prepared = requests.Request("GET", URL, auth=ManagedIdentityAuth(SCOPE)).prepare()
    return prepared.headers["Authorization"].removeprefix("Bearer ")


def run_httpx_auth() -> str:
    import httpx

    from imds_identity.httpx import ManagedIdentityAuth

    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.headers["Authorization"])

    with httpx.Client(
        auth=ManagedIdentityAuth(SCOPE), transport=httpx.MockTransport(respond)
    ) as client:
        return client.get(URL).text.removeprefix("Bearer ")


def run_command_line() -> str:
    import contextlib
    import io

    from imds_identity.cli import main

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = main(["token", "--scope", SCOPE])
    if status != 0:
        sys.exit(status)
    return output.getvalue().strip()


MODES = {
    "sync": run_sync,
    "async": run_async,
    "azure-core-transport": run_azure_core_transport,
    "debug-logging": run_debug_logging,
    "requests-auth": run_requests_auth,
    "httpx-auth": run_httpx_auth,
    "command-line": run_command_line,
}

if __name__ == "__main__":
    print(MODES[sys.argv[1]]())

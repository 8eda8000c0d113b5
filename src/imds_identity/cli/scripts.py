"""The console scripts that other programs start; AZURE_CLIENT_ID selects their identity."""

from __future__ import annotations

import sys

from .._platform.environment import variable_value
from . import main


def docker_credential() -> int:
    """Run ``docker-credential-imds-identity``; return the exit status."""
    return _run("docker-credential")


def _run(command: str) -> int:
    client_id = variable_value("AZURE_CLIENT_ID")
    selector = ["--client-id", client_id] if client_id else []
    return main([command, *sys.argv[1:], *selector])

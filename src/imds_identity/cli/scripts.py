"""The console scripts that other programs start; AZURE_CLIENT_ID is their default identity."""

from __future__ import annotations

import sys

from .._platform.environment import variable_value
from . import main

_SELECTORS = ("--client-id", "--object-id", "--resource-id")


def docker_credential() -> int:
    """Run ``docker-credential-imds-identity``; return the exit status."""
    return _run("docker-credential")


def git_credential() -> int:
    """Run ``git-credential-imds-identity``; return the exit status."""
    return _run("git-credential")


def _run(command: str) -> int:
    words, client_id = sys.argv[1:], variable_value("AZURE_CLIENT_ID")
    if client_id and not any(word.startswith(_SELECTORS) for word in words):
        words = ["--client-id", client_id, *words]
    return main([command, *words])

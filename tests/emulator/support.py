"""Types and helpers for the emulator's tests."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import requests

from imds_identity.emulator import Emulator
from imds_identity.emulator._cli.command import add_arguments, run

VAULT = "https://vault.azure.net"
TOKEN_PATH = "/metadata/identity/oauth2/token"
Send = Callable[..., requests.Response]
Start = Callable[..., Emulator]
Claims = dict[str, Any]


def claims_of(response: requests.Response) -> Claims:
    """Return the claims of the token in a response without verifying it."""
    return jwt.decode(response.json()["access_token"], options={"verify_signature": False})


def key_file(challenge: requests.Response) -> Path:
    """Return the key file that an Arc challenge names."""
    scheme, _, path = challenge.headers["WWW-Authenticate"].partition("=")
    assert scheme == "Basic realm"
    return Path(path)


def run_command(*flags: str) -> int:
    """Run ``imds-identity emulator`` in this process and return its exit status."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(flags))


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

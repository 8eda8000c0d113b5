"""Types and helpers that the emulator's tests share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import requests

from imds_identity.emulator import Emulator
from imds_identity.emulator._cli.command import add_arguments, run

VAULT = "https://vault.azure.net"
TOKEN_PATH = "/metadata/identity/oauth2/token"
Ask = Callable[..., requests.Response]
Start = Callable[..., Emulator]
Claims = dict[str, Any]


def claims_of(answer: requests.Response) -> Claims:
    """What the token in an answer says, unverified."""
    return jwt.decode(answer.json()["access_token"], options={"verify_signature": False})


def key_file(challenge: requests.Response) -> Path:
    """The file that an Arc challenge names."""
    scheme, _, path = challenge.headers["WWW-Authenticate"].partition("=")
    assert scheme == "Basic realm"
    return Path(path)


def ran(*flags: str) -> int:
    """The exit status of ``imds-identity emulator``, run in this process."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(flags))

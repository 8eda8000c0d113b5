"""One request as the page shows it: indented JSON, the decoded token and a curl command."""

from __future__ import annotations

import base64
import json
import re
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._state.request_log import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._state.request_log import RecordedRequest

# curl sends its own values of these headers.
_OF_CURL = frozenset({"accept-encoding", "connection", "content-length", "host"})
_SECRET_VARIABLES = {"secret": "IDENTITY_HEADER", "x-identity-header": "IDENTITY_HEADER"}


def indent_json(body: str) -> str:
    """Return a JSON document with indentation, and any other text unchanged."""
    try:
        return pretty_json(json.loads(body))
    except (ValueError, RecursionError):
        return body


def pretty_json(document: object) -> str:
    """Return a JSON document with indentation."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def decode_token(content: str) -> dict[str, Any] | None:
    """Return the header and the claims of a token without a signature."""
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
            for part in content.split(".")
        )
    except (ValueError, RecursionError):
        return None
    return {"header": header, "claims": claims}


def curl(record: RecordedRequest, endpoint: str, vault: str) -> str:
    """Return a command that repeats a request; variables replace secrets."""
    port = urlsplit(vault).port if vault else None
    host = record.headers.get("host", "")
    base = vault if port is not None and host.endswith(f":{port}") else endpoint
    is_path = record.target.startswith("/")  # with a proxy, it is a whole URL
    target = base + record.target if is_path else record.target
    insecure = "-k " if target.startswith("https") else ""
    parts = [f"curl -s {insecure}{shlex.quote(target)}"]
    if record.method != ("POST" if record.body else "GET"):
        parts.append("--head" if record.method == "HEAD" else f"-X {shlex.quote(record.method)}")
    parts += _curl_headers(record)
    if record.body:
        parts.append(f"--data-raw {shlex.quote(record.body)}")
    return " \\\n  ".join(parts)


def _curl_headers(record: RecordedRequest) -> Iterator[str]:
    for name, value in record.headers.items():
        if name in _OF_CURL:
            continue
        # A client may send this text in a header of any name: some are commands in a shell.
        if value == HIDDEN and re.fullmatch("[a-z][a-z0-9-]*", name):
            variable = _SECRET_VARIABLES.get(name, name.upper().replace("-", "_"))
            yield f'-H "{name}: ${variable}"'
        else:
            yield "-H " + shlex.quote(f"{name}: {value}")

"""Azure Arc: the agent's own metadata service (HIMDS), which proves privilege by a secret file.

https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .._core.failure import Failure, Refused, SecretUnreadable
from .._wire.answer import token_from
from .._wire.exchange import Random, Request, Response, Steps, read_secret, url_with
from .._wire.retry import answered, retry_after
from ._answers import check_identity, no_answer

if TYPE_CHECKING:
    from .._core.token import Token
    from .._core.token_request import TokenRequest

API_VERSION = "2020-06-01"
HEADERS = {"Metadata": "true"}

# The agent replaces its key files often: one may be gone between being named and being used.
_CHALLENGES = 3
_REALM = re.compile(r'\s*Basic\s+realm\s*=\s*(?:"([^"]*)"|(.*\S))\s*', re.IGNORECASE)
_AGENT = "Is the Azure Connected Machine agent running? `azcmagent show` tells."


def exchange(endpoint: str, wanted: TokenRequest, random: Random) -> Steps[Token]:
    """One token from the HIMDS token endpoint.

    Raises:
        Failure: when there is none to be had.
    """
    if not is_loopback(endpoint):
        raise SecretUnreadable(
            "the endpoint is not on this machine, so Arc's secret must not be sent there",
            "IDENTITY_ENDPOINT and IMDS_ENDPOINT must name localhost, 127.0.0.1 or ::1.",
        )
    query = {"api-version": API_VERSION, "resource": wanted.resource, **wanted.identity.query}
    request = Request(url_with(endpoint, query), HEADERS)
    response = yield from _met(request, random)
    if response.status != 200:
        raise no_answer(response, retry_after(response))
    check_identity(response, wanted.identity, required=True)
    return token_from(response, random())


def _met(request: Request, random: Random) -> Steps[Response]:
    """The answer to ``request`` once its challenge is met."""
    for remaining in reversed(range(_CHALLENGES)):
        challenge = yield from answered(request, random, absent=_AGENT)
        if challenge.status != 401:
            raise _no_challenge(challenge)
        secret = yield from read_secret(_realm(challenge))
        authorized = {**request.headers, "Authorization": f"Basic {secret}"}
        response = yield from answered(Request(request.url, authorized), random, absent=_AGENT)
        if response.status != 401 or not remaining:
            return response
    raise AssertionError("unreachable")


def _no_challenge(response: Response) -> Failure:
    if response.status == 200:
        return Refused(
            "the service answered 200 where a 401 challenge was due",
            "That is not how the Azure Arc agent answers: its token was discarded. " + _AGENT,
            status=200,
        )
    return no_answer(response, retry_after(response))


def _realm(challenge: Response) -> str:
    header = challenge.headers.get("www-authenticate", "")
    match = _REALM.fullmatch(header)
    path = match and (match[1] or match[2])
    if not path:
        raise SecretUnreadable(
            "the challenge names no key file: its WWW-Authenticate header is "
            + (repr(header[:200]) if header else "missing"),
            _AGENT,
            status=401,
        )
    return path


def is_loopback(endpoint: str) -> bool:
    """Whether ``endpoint`` (a URL) can only be on this machine."""
    host = urlsplit(endpoint).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

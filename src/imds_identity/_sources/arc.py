"""Azure Arc: the agent's own metadata service (HIMDS), which proves privilege by a secret file.

https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
"""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from .._core.failure import Failure, Reason, Refused, SecretUnreadable, sanitize
from .._http.exchange import (
    Random,
    Request,
    Response,
    Steps,
    confirm_listener,
    read_secret,
    url_with,
)
from .._http.retry import with_retries
from .._http.retry_options import DEFAULT_RETRY, RetryOptions
from .refusals import check_identity, refusal
from .token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .._core.secret import Secret
    from .._core.token import Token
    from .._core.token_request import TokenRequest

Ask: TypeAlias = "Callable[[Request], Steps[Response]]"

API_VERSION = "2020-06-01"
HEADERS = {"Metadata": "true"}

# The agent replaces its key files often: one may be gone between being named and being used.
_CHALLENGES = 3
_AGENT = "Is the Azure Connected Machine agent running? `azcmagent show` tells."


def exchange(
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions = DEFAULT_RETRY,
) -> Steps[Token]:
    """One token from the HIMDS token endpoint.

    Raises:
        Failure: when there is none to be had.
    """
    if not is_on_127(endpoint):
        raise SecretUnreadable(
            "the endpoint is not on this machine, so Arc's secret must not be sent there",
            "IDENTITY_ENDPOINT and IMDS_ENDPOINT must name localhost or 127.0.0.1.",
            reason=Reason.ARC_ENDPOINT_NOT_LOCAL,
        )
    secrets: list[Secret] = []
    try:
        ask = functools.partial(
            with_retries, random=random, absent=_AGENT, retry_options=retry_options
        )
        return (yield from _token(endpoint, token_request, random, ask, secrets))
    except Failure as failure:
        # A service may say whatever it likes, the secret that it was sent included.
        for secret in secrets:
            failure.redact(secret)
        raise


def _token(
    endpoint: str, token_request: TokenRequest, random: Random, ask: Ask, secrets: list[Secret]
) -> Steps[Token]:
    query = {
        "api-version": API_VERSION,
        "resource": token_request.resource,
        **token_request.identity.query,
    }
    request = Request(url_with(_on_127(endpoint), query), _headers(endpoint))
    response = yield from _met(request, token_request, ask, secrets)
    if response.status != 200:
        raise refusal(response, token_request)
    check_identity(response, token_request.identity, required=True)
    return token_from(response, random())


def _met(
    request: Request, token_request: TokenRequest, ask: Ask, secrets: list[Secret]
) -> Steps[Response]:
    """The answer to ``request`` once its challenge is met."""
    for remaining in reversed(range(_CHALLENGES)):
        challenge = yield from ask(request)
        if challenge.status != 401:
            raise _unchallenged(challenge, token_request)
        realm = _realm(challenge)
        port = _port(request.url)
        yield from confirm_listener(port)
        secrets.append((yield from read_secret(realm)))
        authorized = {**request.headers, "Authorization": secrets[-1].after("Basic ")}
        response = yield from ask(Request(request.url, authorized, listener=port))
        if response.status != 401 or not remaining:
            return response
    raise AssertionError("unreachable")


def _unchallenged(response: Response, token_request: TokenRequest) -> Failure:
    """What a first answer other than 401 means."""
    if response.status == 200:
        return Refused(
            "the service answered 200 where a 401 challenge was due",
            "That is not how the Azure Arc agent answers: its token was discarded. " + _AGENT,
            reason=Reason.ARC_NOT_CHALLENGED,
            status=200,
        )
    return refusal(response, token_request)


def _realm(challenge: Response) -> str:
    """The path in ``Basic realm=<path>``, which agents write with quotation marks or without."""
    header = challenge.headers.get("www-authenticate", "")
    scheme, _, parameter = header.strip().partition(" ")
    name, _, value = parameter.partition("=")
    path = value.strip()
    if path.startswith('"'):
        path = path[1:].partition('"')[0]
    if scheme.lower() != "basic" or name.strip().lower() != "realm" or not path:
        raise SecretUnreadable(
            "the challenge names no key file: its WWW-Authenticate header is "
            + (repr(sanitize(header, 200)) if header else "missing"),
            _AGENT,
            reason=Reason.ARC_CHALLENGE_MALFORMED,
            status=401,
        )
    return path


def is_on_127(endpoint: str) -> bool:
    """Whether ``endpoint`` (a URL) names the address where the agent listens, or localhost.

    Not ``::1``, nor the rest of 127.0.0.0/8: there the agent is not, and anybody may listen.
    """
    return urlsplit(endpoint).hostname in ("localhost", "127.0.0.1")


def _on_127(endpoint: str) -> str:
    """``endpoint`` by address: the name may lead to ``::1``, where the agent does not listen."""
    parts = urlsplit(endpoint)
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"127.0.0.1{port}").geturl()


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _headers(endpoint: str) -> dict[str, str]:
    """With the host as it was named, should the agent look at that."""
    return {**HEADERS, "Host": urlsplit(endpoint).netloc}

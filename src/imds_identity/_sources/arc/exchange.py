"""The token exchange with the Azure Arc agent (HIMDS), which responds with a challenge first.

https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
"""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from ..._core.failure import Failure, Reason, Refused, SecretUnreadable, Unavailable, sanitize
from ..._http.messages import Request, Response, url_with
from ..._http.retry import with_retries
from ..._http.retry_options import DEFAULT_RETRY, RetryOptions
from ..refusals import check_identity, from_existing_service, refusal
from ..token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.exchange import Random, Steps
    from ..._http.messages import Auth
    from ..host import HostSpec

    SendWithRetries: TypeAlias = Callable[[Request], Steps[Response]]
    AuthFor: TypeAlias = Callable[[str], Auth]

API_VERSION = "2020-06-01"
HEADERS = {"Metadata": "true"}

# The agent replaces its key files often: one may be gone before it is read.
_MAX_CHALLENGES = 3
# https://github.com/AzureAD/microsoft-authentication-library-for-dotnet/tree/main/docs
_NOT_ASSIGNED = "identity_not_found"
_UNAVAILABLE = "service_unavailable"  # of an agent that is not connected
_AGENT_HINT = "Is the Azure Connected Machine agent running? Run `azcmagent show`."


def exchange(
    spec: HostSpec,
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    auth_for: AuthFor,
    retry_options: RetryOptions = DEFAULT_RETRY,
    *,
    is_named: bool = False,
) -> Steps[Token]:
    """Request one token from the agent.

    ``auth_for`` returns the ``auth`` of a request for the key file with the given path.
    ``is_named``: the environment names the endpoint, so the agent certainly exists.
    """
    if not is_loopback(endpoint):
        raise SecretUnreadable(
            "the endpoint is not on this machine; Arc's secret must not be sent there",
            "IDENTITY_ENDPOINT and IMDS_ENDPOINT must name localhost or 127.0.0.1.",
            reason=Reason.ARC_ENDPOINT_NOT_LOCAL,
        )
    query = {
        "api-version": API_VERSION,
        "resource": token_request.resource,
        **spec.identity_query(token_request.identity),
    }
    # The Host header keeps the name, in case the agent checks it.
    headers = {**HEADERS, "Host": urlsplit(endpoint).netloc}
    request = Request(url_with(_by_address(endpoint), query), headers)
    send = functools.partial(
        with_retries,
        random=random,
        unreachable_hint=_AGENT_HINT,
        rules=spec.retry_rules,
        retry_options=retry_options,
        is_final=_is_not_assigned,
    )
    steps = _authenticated_response(request, token_request, auth_for, send)
    response = yield from (from_existing_service(steps) if is_named else steps)
    if response.status != 200:
        raise _refusal(response, token_request)
    check_identity(response, token_request.identity, required=True)
    return token_from(response, random())


def _authenticated_response(
    request: Request, token_request: TokenRequest, auth_for: AuthFor, send: SendWithRetries
) -> Steps[Response]:
    for remaining in reversed(range(_MAX_CHALLENGES)):
        challenge = yield from send(request)
        if challenge.status != 401:
            raise _no_challenge(challenge, token_request)
        auth = auth_for(_realm(challenge))
        # The challenge shows that the agent exists.
        steps = send(Request(request.url, request.headers, auth=auth))
        response = yield from from_existing_service(steps)
        if response.status != 401 or not remaining:
            return response
    raise AssertionError("unreachable")


def _no_challenge(response: Response, token_request: TokenRequest) -> Failure:
    if response.status == 200:
        return Refused(
            "HTTP 200 instead of a 401 challenge",
            "The Azure Arc agent does not respond like this: the token was discarded. "
            + _AGENT_HINT,
            reason=Reason.ARC_NOT_CHALLENGED,
            status=200,
        )
    return _refusal(response, token_request)


def _refusal(response: Response, token_request: TokenRequest) -> Failure:
    if response.status == 401:
        return Refused(
            "the Azure Arc agent rejected the content of its key file (HTTP 401)",
            "Restart the agent. In a container, mount the directory of its key files.",
            reason=Reason.ARC_KEY_REJECTED,
            status=401,
        )
    if response.status == 503 and response.error_code == _UNAVAILABLE:
        return Refused(
            f"the Azure Arc agent returned HTTP 503: {response.error_text}",
            f"The agent may not be connected to Azure. {_AGENT_HINT}",
            reason=Reason.ARC_NOT_CONNECTED,
            status=503,
        )
    if not _is_not_assigned(response):
        return refusal(response, token_request)
    return Unavailable(
        f"the Azure Arc agent returned HTTP 404: {response.error_text}",
        f"Assign the {token_request.identity} to this server, or select another identity. "
        "`azcmagent show` lists the server's resource.",
        reason=Reason.IDENTITY_NOT_FOUND,
        status=404,
    )


def _is_not_assigned(response: Response) -> bool:
    """Whether the agent responded that the server does not have the identity: retries cannot help.

    Any other 404 means that the endpoint is being updated.
    """
    return response.status == 404 and response.error_code == _NOT_ASSIGNED


def _realm(challenge: Response) -> str:
    """Return the path in ``Basic realm=<path>``, with or without quotation marks."""
    header = challenge.headers.get("www-authenticate", "")
    scheme, _, parameter = header.strip().partition(" ")
    name, _, value = parameter.partition("=")
    path = value.strip()
    if path.startswith('"'):
        path = path[1:].partition('"')[0]
    if scheme.lower() != "basic" or name.strip().lower() != "realm" or not path:
        raise SecretUnreadable(
            "the challenge does not name a key file: its WWW-Authenticate header is "
            + (repr(sanitize(header, 200)) if header else "missing"),
            _AGENT_HINT,
            reason=Reason.ARC_CHALLENGE_MALFORMED,
            status=401,
        )
    return path


def is_loopback(endpoint: str) -> bool:
    """Whether ``endpoint`` names localhost or the address on which the agent listens.

    ``::1`` and other addresses of 127.0.0.0/8 do not count: any user can listen there.
    """
    return urlsplit(endpoint).hostname in ("localhost", "127.0.0.1")


def _by_address(endpoint: str) -> str:
    """Return ``endpoint`` with 127.0.0.1 for localhost, which may resolve to ``::1``."""
    parts = urlsplit(endpoint)
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"127.0.0.1{port}").geturl()

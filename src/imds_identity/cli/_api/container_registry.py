"""Azure Container Registry: a token of the managed identity is exchanged for a refresh token.

https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ..._core.claims import claims_in
from ..._core.failure import Failure, Malformed, Refused, sanitize
from ..._core.identity import SYSTEM_ASSIGNED
from ..._core.secret import Secret
from ..._http.messages import Request, Response
from ..._http.retry import with_retries
from ..._sources.federated_application import ExchangedTokenSource
from ..._sources.host import HostSpec
from ..._sources.refusals import from_existing_service, reason_of, refusal
from ..._sources.token_parsing import fields_of, token_from
from ...metadata._services import CONTAINER_REGISTRY
from ...metadata.clouds import CHINA, PUBLIC, US_GOVERNMENT
from ..arguments import token_client
from .hosts import check_cloud, cloud_getter

if TYPE_CHECKING:
    import argparse

    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.exchange import Steps
    from ..._http.runner import ExchangeRunner
    from ..._token_cache.client import TokenClient

_DOMAINS = {"azurecr.io": PUBLIC, "azurecr.us": US_GOVERNMENT, "azurecr.cn": CHINA}
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?P<name>{_LABEL})(?:\.{_LABEL}\.data)?\.(?P<domain>azurecr\.(?:io|us|cn))")


def registry_of(server: str) -> str | None:
    """Return the host of a registry, also for its data endpoints; None for other servers."""
    host = server.strip().removeprefix("https://").partition("/")[0].lower()
    found = _HOST.fullmatch(host)
    return f"{found['name']}.{found['domain']}" if found else None


def registry_client(args: argparse.Namespace, registry: str) -> TokenClient:
    """Return a client for refresh tokens of ``registry``, a result of `registry_of`.

    Raises:
        ValueError: for invalid flags, or a registry of another cloud than this machine's.
    """
    check_cloud(registry, _DOMAINS[registry.partition(".")[2]], cloud_getter(args)())
    client = token_client(args)
    return client.with_source(RegistrySource(registry, client), SYSTEM_ASSIGNED)


class RegistrySource(ExchangedTokenSource):
    """The token exchange of one registry."""

    def __init__(self, registry: str, identity_tokens: TokenClient) -> None:
        endpoint = f"https://{registry}/oauth2/exchange"
        super().__init__(_SPEC, endpoint, CONTAINER_REGISTRY, identity_tokens)
        self._registry = registry

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a refresh token, usually with one request."""
        return runner.run(
            self._exchange(Secret(self.identity_token(runner)), token_request, runner)
        )

    def _exchange(
        self, access_token: Secret, token_request: TokenRequest, runner: ExchangeRunner
    ) -> Steps[Token]:
        request = Request(
            self.endpoint,
            {"Content-Type": "application/x-www-form-urlencoded"},
            "POST",
            _form(self._registry, access_token),
            over_internet=True,
        )
        responses = with_retries(
            request,
            runner.random,
            unreachable_hint="Is the name of the registry correct, and does its firewall allow "
            "this machine?",
            rules=self.spec.retry_rules,
            retry_options=runner.retry_options,
        )
        try:
            response = yield from from_existing_service(responses)
            if response.status != 200:
                raise self._refusal(response, token_request)
            return token_from(_as_token_response(response), runner.random())
        except Failure as failure:
            failure.redact(access_token)  # the registry may echo what it received
            raise

    def _refusal(self, response: Response, token_request: TokenRequest) -> Failure:
        if response.status not in (400, 401, 403):
            return refusal(response, token_request)
        return Refused(
            f"{self._registry} returned HTTP {response.status}: {_error_text(response)}",
            "Does the identity have a role of the registry, such as AcrPull? A new role assignment "
            "takes some minutes to work.",
            reason=reason_of(response),
            status=response.status,
        )


def _form(registry: str, access_token: Secret) -> bytes:
    """Return the form, which no variable of a frame in a traceback holds."""
    form = {"grant_type": "access_token", "service": registry}
    return urlencode({**form, "access_token": access_token.reveal()}).encode()


def _as_token_response(response: Response) -> Response:
    """Return a registry's response in the form of other token services."""
    token = fields_of(response).get("refresh_token")
    expires_on = claims_in(token).get("exp") if isinstance(token, str) else None
    if not isinstance(expires_on, int):
        raise Malformed("the registry returned no refresh token with an expiry")
    fields = {"access_token": token, "expires_on": expires_on}
    return Response(
        response.status,
        response.headers,
        json.dumps(fields).encode(),
        response.sent_at,
        response.received_at,
        response.received_wall,
    )


def _error_text(response: Response) -> str:
    """Return the error, which is a list in a registry's response."""
    try:
        error = json.loads(response.body)["errors"][0]
        return sanitize(f"{error['code']}: {error['message']}")
    except (ValueError, LookupError, TypeError, RecursionError):
        return response.error_text


_SPEC = HostSpec("container-registry", "Azure Container Registry", requires_https=True)
"""Not detected: the name of the registry selects it."""

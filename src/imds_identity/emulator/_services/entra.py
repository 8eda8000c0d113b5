"""Microsoft Entra ID: the keys that verify tokens (RFC 7517), and tokens for workloads."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt

from .._machine.identities import IdentityNotFoundError, Selector, find_identity
from .._machine.resources import is_known_resource
from .._messages import json_response
from .._state.tokens import (
    EXCHANGE_AUDIENCE,
    EXCHANGE_RESOURCE,
    Principal,
    issuer_url,
    v2_issuer_url,
)
from .request_checks import check_method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._machine.identities import Application
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import EmulatorState

JWKS_PATH = "/common/discovery/keys"
_V2_JWKS_PATH = "/discovery/v2.0/keys"  # after that of the tenant
V2_TOKEN_PATH = "/oauth2/v2.0/token"  # noqa: S105 - a path, after that of the tenant
SUBJECT = "system:serviceaccount:default:emulated-workload"
_ASSERTION_SECONDS = 365 * 86400
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.0000000Z"


def configuration_path(tenant_id: str) -> str:
    """Return the path of a tenant's OpenID configuration."""
    return f"/{tenant_id}/.well-known/openid-configuration"


class OpenIdEndpoint:
    """Returns OpenID configurations or the public key, with URLs that start with ``base``."""

    def __init__(self, state: EmulatorState, base: str) -> None:
        self._tokens = state.tokens
        tenant_id = state.machine.tenant_id
        self._configurations = {
            configuration_path(tenant_id): _configuration(
                issuer_url(tenant_id), f"{base}/{tenant_id}/oauth2", f"{base}{JWKS_PATH}"
            ),
            configuration_path(f"{tenant_id}/v2.0"): _configuration(
                v2_issuer_url(tenant_id),
                f"{base}/{tenant_id}/oauth2/v2.0",
                f"{base}/{tenant_id}{_V2_JWKS_PATH}",
            ),
        }
        self.paths = (*self._configurations, JWKS_PATH, f"/{tenant_id}{_V2_JWKS_PATH}")

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_method(request)
        keys = {"keys": [self._tokens.key().jwk]}
        return json_response(200, self._configurations.get(request.path, keys))


def _configuration(issuer: str, oauth2: str, keys: str) -> dict[str, object]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{oauth2}/authorize",
        "token_endpoint": f"{oauth2}/token",
        "jwks_uri": keys,
        "response_types_supported": ["code", "id_token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def workload_assertion(state: EmulatorState, issuer: str) -> str:
    """Return the token that a Kubernetes cluster with this issuer gives to its workload."""
    now = int(state.clock.time())
    claims: dict[str, object] = {
        "aud": [EXCHANGE_RESOURCE],
        "exp": now + _ASSERTION_SECONDS,
        "iat": now,
        "iss": issuer,
        "nbf": now,
        "sub": SUBJECT,
    }
    key = state.tokens.key()
    return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.id})


class _EntraError(Exception):
    """An error of Entra: the OAuth error, the number after AADSTS, and its text."""

    def __init__(self, error: str, number: int, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.number = number
        self.text = text


class Client(NamedTuple):
    """A client of Entra: the subject of its tokens, and the assertions that prove who it is."""

    principal: Principal
    issuers: tuple[str, ...]
    subject: str


class Clients(NamedTuple):
    """The clients of Entra: the ids of the tenants, and a function of tenant and client id."""

    tenants: frozenset[str]
    find: Callable[[str, str], Client | None]


def workloads(state: EmulatorState, issuer: str) -> Clients:
    """Return the machine's identities, for the workload of a cluster with this issuer."""

    def find(_: str, client_id: str) -> Client | None:
        try:
            selector = Selector("client_id", "client_id", client_id)
            identity = find_identity(state.identities, selector)
        except IdentityNotFoundError:
            return None
        return Client(state.principal(identity), (issuer,), SUBJECT)

    return Clients(frozenset({state.machine.tenant_id.lower()}), find)


def federated_applications(state: EmulatorState, applications: Iterable[Application]) -> Clients:
    """Return the applications, which trust an identity of the machine."""
    own = state.machine.tenant_id
    issuers = (v2_issuer_url(own), issuer_url(own))
    clients = {}
    for each in applications:
        principal = Principal(each.tenant_id or own, each.client_id, each.object_id)
        key = (principal.tenant_id.lower(), each.client_id.lower())
        clients[key] = Client(principal, issuers, each.identity.object_id)
    tenants = frozenset({own.lower(), *(tenant for tenant, _ in clients)})
    return Clients(tenants, lambda tenant, client_id: clients.get((tenant, client_id.lower())))


class TokenExchangeEndpoint:
    """``/{tenant}/oauth2/v2.0/token``: exchanges a client's assertion for a token."""

    def __init__(self, state: EmulatorState, clients: Clients) -> None:
        self._state = state
        self._clients = clients

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        check_method(request, ("POST",))
        try:
            return json_response(200, self._token(request, fault))
        except _EntraError as error:
            return self._error(error)

    def _token(self, request: Request, fault: Fault | None) -> dict[str, object]:
        form = _form(request)
        tenant = request.path.split("/")[1].lower()
        if tenant not in self._clients.tenants:
            text = (
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID "
                "and are signing into the correct cloud."
            )
            raise _EntraError("invalid_request", 90002, text)
        client = self._client(tenant, form["client_id"])
        resource = self._resource(form["scope"], tenant)
        self._check_assertion(form["client_assertion"], client)
        principal = client.principal
        if fault is not None and fault.token_lifetime is not None:
            token = self._state.tokens.token_expiring_in(principal, resource, fault.token_lifetime)
        else:
            token = self._state.tokens.token(principal, resource, bypass_cache=True)
        seconds = max(int(token.expires - self._state.clock.time()), 0)
        return {
            "access_token": token.value,
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "token_type": "Bearer",
        }

    def _client(self, tenant: str, client_id: str) -> Client:
        client = self._clients.find(tenant, client_id)
        if client is None:
            text = (
                f"Application with identifier '{client_id}' was not found in the directory "
                f"'{tenant}'."
            )
            raise _EntraError("unauthorized_client", 700016, text)
        return client

    def _resource(self, scope: str, tenant: str) -> str:
        resource, default, rest = scope.partition("/.default")
        if not default or rest:
            text = (
                f"The provided value for scope {scope} is not valid. Client credential flows must "
                "have a scope value with /.default suffixed to the resource identifier."
            )
            raise _EntraError("invalid_scope", 1002012, text)
        if not is_known_resource(resource, self._state.resources):
            text = (
                f"The resource principal named {resource} was not found in the tenant named "
                f"{tenant}."
            )
            raise _EntraError("invalid_resource", 500011, text)
        return resource

    def _check_assertion(self, assertion: str, client: Client) -> None:
        claims = self._claims(assertion)
        audiences = claims.get("aud")
        audience = audiences[0] if isinstance(audiences, list) and audiences else audiences
        expected = (
            (700211, "issuer", claims.get("iss"), client.issuers),
            (700212, "audience", audience, (EXCHANGE_RESOURCE, EXCHANGE_AUDIENCE)),
            (700213, "subject", claims.get("sub"), (client.subject,)),
        )
        for number, name, found, accepted in expected:
            if found not in accepted:
                text = (
                    "No matching federated identity record found for presented assertion "
                    f"{name} '{found}'."
                )
                raise _EntraError("invalid_client", number, text)
        self._check_time(claims)

    def _claims(self, assertion: str) -> Mapping[str, object]:
        options: Any = dict.fromkeys(
            ("verify_aud", "verify_exp", "verify_iat", "verify_nbf", "verify_sub", "verify_jti"),
            False,
        )
        try:
            key = self._state.tokens.key().public
            return jwt.decode(assertion, key, algorithms=["RS256"], options=options)
        except (jwt.PyJWTError, ValueError):
            text = "JWT token is invalid or malformed."
            raise _EntraError("invalid_request", 50027, text) from None

    def _check_time(self, claims: Mapping[str, Any]) -> None:
        now, begin, end = self._state.clock.time(), claims.get("nbf", 0), claims.get("exp", 0)
        try:
            if begin <= now + 300 and now < end + 300:
                return
            times = [time.strftime(_TIME_FORMAT, time.gmtime(each)) for each in (now, begin, end)]
        except (TypeError, ValueError, OverflowError, OSError):
            raise _EntraError("invalid_request", 50027, "JWT token is invalid.") from None
        text = (
            f"Client assertion is not within its valid time range. Current time: {times[0]}, "
            f"assertion valid from {times[1]}, expiry time of assertion {times[2]}."
        )
        raise _EntraError("invalid_client", 700024, text)

    def _error(self, error: _EntraError) -> Response:
        now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self._state.clock.time()))
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        text = (
            f"AADSTS{error.number}: {error.text} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {now}"
        )
        document = {
            "error": error.error,
            "error_description": text,
            "error_codes": [error.number],
            "timestamp": now,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={error.number}",
        }
        return json_response(401 if error.error == "invalid_client" else 400, document)


def _form(request: Request) -> dict[str, str]:
    form = request.form()
    for name in ("grant_type", "client_id", "client_assertion_type", "client_assertion", "scope"):
        if name not in form:
            text = f"The request body must contain the following parameter: '{name}'."
            raise _EntraError("invalid_request", 900144, text)
    given = (form["grant_type"], form["client_assertion_type"])
    if given != ("client_credentials", _ASSERTION_TYPE):
        text = "The app requested an unsupported grant type or client assertion type."
        raise _EntraError("unsupported_grant_type", 70003, text)
    return form

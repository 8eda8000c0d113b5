"""The other hosts: App Service, Service Fabric, Azure ML and AKS by MSAL, and Cloud Shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msal
import urllib3

from .._core.failure import Failure, Malformed, Refused, Unavailable, quote
from .._core.issued import Fields, token_of
from .._wire.exchange import TransportError
from .detect import secret_of
from .msal_session import MsalSession

if TYPE_CHECKING:
    import requests

    from .._core.clock import Clock
    from .._core.identity import Identity
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._wire.exchange import Random
    from .detect import Source

_LONGEST_ASSERTION = 65536
# What MSAL says, or runs into where an answer is not as it expects.
_TRIPPED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError, msal.exceptions.MsalError,
)  # fmt: skip
_SELECTORS = {
    "app-service": ("client_id", "object_id", "resource_id"),
    "azure-ml": ("client_id", "object_id", "resource_id"),
    "workload-identity": ("client_id",),
}


class MsalHost:
    """One of MSAL's hosts, for one identity.

    Args:
        source: which host.
        clock: when the answers come.
        random: spreads the refreshes.
    """

    def __init__(self, source: Source, clock: Clock, random: Random) -> None:
        self._source = source
        self._clock = clock
        self._random = random
        # What a claims challenge is about: MSAL tells some hosts which token was refused.
        self._last = msal.TokenCache()

    def fetch(self, wanted: TokenRequest) -> Token:
        """One token, from the host and from no cache.

        Raises:
            Failure: when there is none to be had.
        """
        _check_selector(self._source.name, wanted.identity)
        cache = self._last if wanted.claims else msal.TokenCache()
        clock = self._clock
        sent_at, sent_wall = clock.now(), clock.wall()
        try:
            fields = self._ask(wanted, cache)
            token = _token(fields, sent_at, sent_wall, self._random())
        except Failure as failure:
            if secret := secret_of(self._source):
                failure.hide(secret)
            raise
        self._last = cache
        return token

    def _ask(self, wanted: TokenRequest, cache: msal.TokenCache) -> Fields:
        problem: Failure
        # Only workload identity goes over the internet.
        proxies = self._source.name == "workload-identity"
        with MsalSession(self._clock, self._random, proxies=proxies) as session:
            try:
                return Fields(dict(self._result(wanted, session, cache)))
            except Failure as failure:
                problem = failure
            except (OSError, TransportError, urllib3.exceptions.HTTPError) as error:
                problem = Unavailable(
                    f"the host does not answer ({type(error).__name__})",
                    f"{self._source.variable} says where it is.",
                )
            except _TRIPPED as error:
                words = quote(str(error)) or "no words"
                problem = Malformed(
                    f"the host's answer makes no token ({type(error).__name__}: {words})",
                    f"Is it {self._source} that answers there?",
                )
        # Not inside the handler: an exception's context would keep MSAL's, and that the answer.
        raise problem

    def _result(self, wanted: TokenRequest, session: requests.Session, cache: Any) -> Any:
        if self._source.name == "workload-identity":
            return _workload_identity(self._source, wanted, session)
        if self._source.name == "cloud-shell":
            return _cloud_shell(self._source, wanted, session)
        client = msal.ManagedIdentityClient(
            _msal_identity(wanted.identity), http_client=session, token_cache=cache
        )
        return client.acquire_token_for_client(
            resource=wanted.resource, claims_challenge=wanted.claims
        )


def _token(fields: Fields, sent_at: float, sent_wall: float, random: float) -> Token:
    if fields.get("access_token") is None:
        words = quote(f"{_text(fields, 'error')}: {_text(fields, 'error_description')}")
        raise Refused(f"the host gave no token: {words}")
    expires_in = fields.get("expires_in")
    # MSAL counts these from expires_on, which may have passed.
    if isinstance(expires_in, int) and expires_in < 0:
        raise _expired()
    lifetime = fields.seconds("expires_in")
    if lifetime is None:
        raise Malformed("the host's answer has no expires_in")
    if lifetime == 0:
        raise _expired()
    return token_of(fields, lifetime, sent_at, sent_wall, random)


def _expired() -> Malformed:
    return Malformed(
        "the host gave a token that has expired: its expires_in is not above 0",
        "Check this machine's clock.",
    )


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else f"no {name}"


def _check_selector(source: str, identity: Identity) -> None:
    if identity.selector and identity.selector not in _SELECTORS.get(source, ()):
        raise Refused(
            f"{source} cannot select an identity by {identity.selector}",
            "Leave the selector out, or configure the identity in the host itself.",
        )


def _msal_identity(identity: Identity) -> Any:
    if not identity.selector:
        return msal.SystemAssignedManagedIdentity()
    return msal.UserAssignedManagedIdentity(**{identity.selector: identity.value})


def _cloud_shell(source: Source, wanted: TokenRequest, session: requests.Session) -> Any:
    """Cloud Shell's answer, in the words that MSAL has for one.

    MSAL itself would open a browser, and wait for it, in whatever it does not take for Cloud Shell.
    """
    answer = session.post(
        source.endpoint,
        data={"resource": wanted.resource},
        headers={"Metadata": "true"},
        allow_redirects=False,
    )
    result = json.loads(answer.text)
    if answer.status_code == 200:
        return result
    error = result["error"]
    return {"error": error["code"], "error_description": error["message"]}


def _workload_identity(source: Source, wanted: TokenRequest, session: requests.Session) -> Any:
    def assertion() -> str:
        try:
            with open(source.path, encoding="utf-8") as file:
                return file.read(_LONGEST_ASSERTION)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unavailable(
            f"{quote(source.path)!r} cannot be read: {reason}",
            "AZURE_FEDERATED_TOKEN_FILE names the file with this workload's token.",
        )

    app = msal.ConfidentialClientApplication(
        wanted.identity.value or source.client_id,
        authority=source.endpoint,
        client_credential={"client_assertion": assertion},
        http_client=session,
    )
    scopes = [f"{wanted.resource}/.default"]
    return app.acquire_token_for_client(scopes=scopes, claims_challenge=wanted.claims)

"""The hosts that MSAL speaks to: App Service, Service Fabric, Azure ML, Cloud Shell and AKS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msal
import urllib3

from .._core.failure import Failure, Malformed, Refused, Unavailable, quote
from .._core.issued import Fields, token_of
from .._wire.exchange import TransportError
from .msal_session import MsalSession

if TYPE_CHECKING:
    import requests

    from .._core.identity import Identity
    from .._core.secret import Secret
    from .._core.source import Source
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._wire.channel import Channel

_LONGEST_ASSERTION = 65536
# What MSAL says, or runs into where an answer is not as it expects.
_TRIPPED = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError, msal.exceptions.MsalError,
)  # fmt: skip
_SELECTORS = ("client_id", "object_id", "resource_id")


class MsalHost:
    """One of MSAL's hosts, for one identity.

    Args:
        source: which host.
        secret: what this process proves itself to the host with, if anything.
    """

    selectors: tuple[str, ...] = ()
    """Those of `Identity` that the host knows."""
    over_the_internet = False
    """Whether it is not on this machine, so that a proxy may lie between."""

    def __init__(self, source: Source, secret: Secret | None = None) -> None:
        self._source = source
        self._secret = secret
        # What a claims challenge is about: MSAL tells some hosts which token was refused.
        self._last = msal.TokenCache()

    def fetch(self, wanted: TokenRequest, channel: Channel) -> Token:
        """One token, from the host and from no cache.

        Raises:
            Failure: when there is none to be had.
        """
        self._check_selector(wanted.identity)
        cache = self._last if wanted.claims else msal.TokenCache()
        sent_at, sent_wall = channel.clock.now(), channel.clock.wall()
        try:
            fields = self._ask(wanted, cache, channel)
            token = _token(fields, sent_at, sent_wall, channel.random())
        except Failure as failure:
            if self._secret:
                failure.hide(self._secret)
            raise
        self._last = cache
        return token

    def _ask(self, wanted: TokenRequest, cache: msal.TokenCache, channel: Channel) -> Fields:
        problem: Failure
        with MsalSession(channel.clock, channel.random, proxies=self.over_the_internet) as session:
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

    def _check_selector(self, identity: Identity) -> None:
        if identity.selector and identity.selector not in self.selectors:
            raise Refused(
                f"{self._source.name} cannot select an identity by {identity.selector}",
                "Leave the selector out, or configure the identity in the host itself.",
            )

    def _result(self, wanted: TokenRequest, session: requests.Session, cache: Any) -> Any:
        """The host's answer, in the words that MSAL has for one."""
        raise NotImplementedError


class ManagedIdentityHost(MsalHost):
    """App Service, Azure ML or Service Fabric: MSAL looks in the environment which, and where."""

    def __init__(self, source: Source, secret: Secret | None = None) -> None:
        super().__init__(source, secret)
        # Service Fabric's identities are configured in its manifest.
        self.selectors = () if source.name == "service-fabric" else _SELECTORS

    def _result(self, wanted: TokenRequest, session: requests.Session, cache: Any) -> Any:
        client = msal.ManagedIdentityClient(
            _msal_identity(wanted.identity), http_client=session, token_cache=cache
        )
        return client.acquire_token_for_client(
            resource=wanted.resource, claims_challenge=wanted.claims
        )


class CloudShellHost(MsalHost):
    """Cloud Shell, asked without MSAL.

    That would open a browser, and wait for it, in whatever it does not take for Cloud Shell.
    """

    def _result(self, wanted: TokenRequest, session: requests.Session, cache: Any) -> Any:  # noqa: ARG002
        answer = session.post(
            self._source.endpoint,
            data={"resource": wanted.resource},
            headers={"Metadata": "true"},
            allow_redirects=False,
        )
        result = json.loads(answer.text)
        if answer.status_code == 200:
            return result
        error = result["error"]
        return {"error": error["code"], "error_description": error["message"]}


class WorkloadHost(MsalHost):
    """Microsoft Entra ID, which exchanges a Kubernetes workload's token.

    Args:
        source: where, and whose token without a selector.
        token_file: the file with the workload's token.
    """

    selectors = ("client_id",)
    over_the_internet = True

    def __init__(self, source: Source, token_file: str) -> None:
        super().__init__(source)
        self._token_file = token_file

    def _result(self, wanted: TokenRequest, session: requests.Session, cache: Any) -> Any:  # noqa: ARG002
        app = msal.ConfidentialClientApplication(
            wanted.identity.value or self._source.client_id,
            authority=self._source.endpoint,
            client_credential={"client_assertion": self._assertion},
            http_client=session,
        )
        scopes = [f"{wanted.resource}/.default"]
        return app.acquire_token_for_client(scopes=scopes, claims_challenge=wanted.claims)

    def _assertion(self) -> str:
        try:
            with open(self._token_file, encoding="utf-8") as file:
                return file.read(_LONGEST_ASSERTION)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unavailable(
            f"{quote(self._token_file)!r} cannot be read: {reason}",
            "AZURE_FEDERATED_TOKEN_FILE names the file with this workload's token.",
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


def _msal_identity(identity: Identity) -> Any:
    if not identity.selector:
        return msal.SystemAssignedManagedIdentity()
    return msal.UserAssignedManagedIdentity(**{identity.selector: identity.value})

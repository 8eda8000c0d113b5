"""The other hosts, spoken to by MSAL: App Service, Service Fabric, Azure ML, Cloud Shell, AKS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msal
import requests

from .._core.failure import Malformed, Refused, Unavailable, quote
from .._core.freshness import refresh_delay
from .._core.token import Token
from .._wire.exchange import TransportError
from .msal_session import MsalSession

if TYPE_CHECKING:
    from .._core.clock import Clock
    from .._core.identity import Identity
    from .._core.token_request import TokenRequest
    from .._wire.exchange import Random
    from .detect import Source

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
        started = self._clock.now()
        # Only workload identity goes over the internet.
        proxies = self._source.name == "workload-identity"
        with MsalSession(self._clock, self._random, proxies=proxies) as session:
            try:
                result = self._ask(wanted, session, cache)
            except (requests.RequestException, TransportError) as error:
                raise Unavailable(f"the host does not answer ({type(error).__name__})") from None
            except (ValueError, KeyError, msal.ManagedIdentityError, OSError) as error:
                raise Malformed(
                    f"MSAL got no token ({type(error).__name__}: {quote(str(error))})"
                ) from None
        self._last = cache
        return self._token(result, started)

    def _ask(
        self, wanted: TokenRequest, session: requests.Session, cache: msal.TokenCache
    ) -> dict[str, Any]:
        if self._source.name == "workload-identity":
            return _workload_identity(self._source, wanted, session)
        if self._source.name == "cloud-shell":
            shell = msal.PublicClientApplication("cloud-shell", http_client=session)
            scopes = [f"{wanted.resource}/.default"]
            return dict(shell.acquire_token_interactive(scopes=scopes, prompt="none"))
        client = msal.ManagedIdentityClient(
            _msal_identity(wanted.identity), http_client=session, token_cache=cache
        )
        return dict(
            client.acquire_token_for_client(
                resource=wanted.resource, claims_challenge=wanted.claims
            )
        )

    def _token(self, result: dict[str, Any], started: float) -> Token:
        if "access_token" not in result:
            words = f"{result.get('error')}: {result.get('error_description')}"
            raise Refused(f"the host gave no token: {quote(words)}")
        lifetime = float(result.get("expires_in", 0)) - (self._clock.now() - started)
        if lifetime <= 0:
            raise Malformed("the host gave a token that has expired", "Check this machine's clock.")
        delay = refresh_delay(lifetime, result.get("refresh_in"), self._random())
        now, wall = self._clock.now(), self._clock.wall()
        return Token(
            value=result["access_token"],
            token_type=result.get("token_type", "Bearer"),
            expires_on=round(wall + lifetime),
            refresh_on=int(wall + delay),
            received_at=now,
            refresh_at=now + delay,
            expires_at=now + lifetime,
        )


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


def _workload_identity(
    source: Source, wanted: TokenRequest, session: requests.Session
) -> dict[str, Any]:
    def assertion() -> str:
        with open(source.path, encoding="utf-8") as file:
            return file.read()

    app = msal.ConfidentialClientApplication(
        wanted.identity.value or source.client_id,
        authority=source.endpoint,
        client_credential={"client_assertion": assertion},
        http_client=session,
    )
    scopes = [f"{wanted.resource}/.default"]
    return dict(app.acquire_token_for_client(scopes=scopes, claims_challenge=wanted.claims))

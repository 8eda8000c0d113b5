"""Tokens as Entra's v1 endpoint signs them, and the token cache of the metadata service."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jwt.types import Options

    from .._clock import Clock
    from .._pki.signing_key import SigningKey

_MAX_CACHED = 1024
_MAX_ISSUED = 500
# Entra backdates tokens for clients with slow clocks.
_BACKDATED_SECONDS = 300
EXCHANGE_RESOURCE = "api://AzureADTokenExchange"
# Tokens of version 2.0 name the resource by its application; only this resource gets them here.
EXCHANGE_AUDIENCE = "fb60f99c-7a34-4190-8149-302f77469936"


class RefusedTokenError(Exception):
    """A token that a service must not accept; the message has the reason, but not the token."""


class RevokedTokenError(RefusedTokenError):
    """A valid token that was revoked."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token; ``issued`` and ``expires`` are in Unix seconds, ``lifetime`` in seconds."""

    value: str = field(repr=False)
    resource: str
    client_id: str
    issued: int
    expires: int
    lifetime: int
    serial: int = field(repr=False)

    @property
    def not_before(self) -> int:
        """The token's ``iat`` and ``nbf`` in Unix seconds: Entra backdates them."""
        return self.issued - _BACKDATED_SECONDS


@dataclass(frozen=True, slots=True)
class Principal:
    """The subject of a token; an application has no ``resource_id``."""

    tenant_id: str
    client_id: str
    object_id: str
    resource_id: str = ""


@dataclass(frozen=True, slots=True)
class TokenUse:
    """A token that a request returned or presented; ``content`` lacks the signature."""

    content: str
    resource: str
    client_id: str


class TokenService:
    """Issues tokens, caches them as the real service does, and verifies them."""

    def __init__(
        self, clock: Clock, lifetime: int, key: Callable[[], SigningKey], seed: int | None = None
    ) -> None:
        self.key = key
        self._seed = seed
        self._clock = clock
        self.lifetime = lifetime
        self._cache: OrderedDict[tuple[str, str], IssuedToken] = OrderedDict()
        self._serial = 0
        self.revoked_up_to = 0  # tokens up to this serial number are revoked
        self.issued: deque[IssuedToken] = deque(maxlen=_MAX_ISSUED)
        self._use: TokenUse | None = None

    def take_use(self) -> TokenUse | None:
        """Return the token that was used since the last call, for the log."""
        use, self._use = self._use, None
        return use

    def reset(self) -> None:
        """Clear the cache and forget which tokens were issued or revoked."""
        self._cache.clear()
        self.issued.clear()
        self.revoked_up_to = 0
        if self._seed is not None:
            self._serial = 0

    def revoke(self) -> None:
        """Revoke all tokens issued so far; the cache still returns them, as the real one does."""
        self.revoked_up_to = self._serial

    def token(
        self, principal: Principal, resource: str, *, bypass_cache: bool = False
    ) -> IssuedToken:
        """Return the cached token, or issue a new one and cache it."""
        key = (principal.client_id, resource)
        cached = self._cache.get(key)
        if cached is not None and not bypass_cache and cached.expires > self._clock.time():
            self._note_use(cached.value, resource, cached.client_id)
            return cached
        fresh = self._issue(principal, resource, int(self._clock.time()))
        self._cache[key] = fresh
        self._cache.move_to_end(key)
        if len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return fresh

    def token_expiring_in(self, principal: Principal, resource: str, seconds: float) -> IssuedToken:
        """Issue a token, without caching it, that expires in ``seconds`` as if it were old."""
        issued = int(self._clock.time() + seconds) - self.lifetime
        return self._issue(principal, resource, issued)

    def _issue(self, principal: Principal, resource: str, issued: int) -> IssuedToken:
        self._serial += 1
        expires = issued + self.lifetime
        claims = _claims(principal, resource, issued - _BACKDATED_SECONDS, expires)
        unique = secrets.token_urlsafe(12) if self._seed is None else f"seed{self._seed}"
        claims["uti"] = f"{self._serial:x}.{unique}"
        key = self.key()
        value = jwt.encode(
            claims, key.private, algorithm="RS256", headers={"kid": key.id, "x5t": key.id}
        )
        token = IssuedToken(
            value, resource, principal.client_id, issued, expires, self.lifetime, self._serial
        )
        self.issued.append(token)
        self._note_use(value, resource, principal.client_id)
        return token

    def _note_use(self, value: str, resource: str, client_id: str) -> None:
        self._use = TokenUse(value.rpartition(".")[0], resource, client_id)

    def check(self, value: str, audience: str, tenant_id: str) -> Mapping[str, object]:
        """Return the claims of a valid token; RefusedTokenError for others, with the reason."""
        claims = self._decode(value, tenant_id)
        client_id = claims.get("azp") or claims.get("appid")
        self._note_use(value, str(claims.get("aud", "")), str(client_id or ""))
        found = claims.get("aud")
        if not isinstance(found, str) or found.rstrip("/") != audience.rstrip("/"):
            raise RefusedTokenError(
                f"Invalid audience. Expected {audience}, found: {str(found)[:200]}."
            )
        now = self._clock.time()
        if not _numeric_claim(claims, "nbf") <= now + 1:
            raise RefusedTokenError("The token is not valid yet.")
        if not now < _numeric_claim(claims, "exp"):
            raise RefusedTokenError("The token has expired.")
        if _serial_of(claims) <= self.revoked_up_to:
            raise RevokedTokenError("The token was revoked.")
        return claims

    def _decode(self, value: str, tenant_id: str) -> dict[str, object]:
        # PyJWT uses the machine's clock, so check() compares the times with the emulator's.
        options: Options = {
            "verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False,
        }  # fmt: skip
        try:
            return jwt.decode(
                value,
                self.key().public,
                algorithms=["RS256"],
                issuer=issuer_url(tenant_id),
                options=options,
            )
        except jwt.InvalidIssuerError as error:
            raise RefusedTokenError("The token was issued by another tenant.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise RefusedTokenError("The token's form or signature is not valid.") from error


def _numeric_claim(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedTokenError(f"The token has no numeric {name} claim.")
    return value


def _serial_of(claims: Mapping[str, object]) -> int:
    try:
        return int(str(claims.get("uti", "")).partition(".")[0], 16)
    except ValueError:
        return 0


def issuer_url(tenant_id: str) -> str:
    """Return the ``iss`` claim of a tenant's v1 tokens."""
    return f"https://sts.windows.net/{tenant_id}/"


def v2_issuer_url(tenant_id: str) -> str:
    """Return the ``iss`` claim of a tenant's v2.0 tokens."""
    return f"https://login.microsoftonline.com/{tenant_id}/v2.0"


def _claims(
    principal: Principal, resource: str, not_before: int, expires: int
) -> dict[str, str | int]:
    is_v2 = resource.lower().rstrip("/") == EXCHANGE_RESOURCE.lower()
    issuer = (v2_issuer_url if is_v2 else issuer_url)(principal.tenant_id)
    client, authentication = ("azp", "azpacr") if is_v2 else ("appid", "appidacr")
    claims: dict[str, str | int] = {
        "aud": EXCHANGE_AUDIENCE if is_v2 else resource,
        "iss": issuer,
        "iat": not_before,
        "nbf": not_before,
        "exp": expires,
        client: principal.client_id,
        authentication: "2",
        "idp": issuer,
        "idtyp": "app",
        "oid": principal.object_id,
        "sub": principal.object_id,
        "tid": principal.tenant_id,
        "ver": "2.0" if is_v2 else "1.0",
    }
    if principal.resource_id:
        claims["xms_mirid"] = principal.resource_id
    return claims

"""Tokens as Entra's v1 endpoint signs them, and the cache that the service keeps of them."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jwt.types import Options

    from .._clock import Clock
    from .._pki.signing_key import SigningKey

_MOST_CACHED = 1024
_MOST_REMEMBERED = 500


class RefusedTokenError(Exception):
    """A token that a service must not accept; the message says why, without the token."""


class RevokedTokenError(RefusedTokenError):
    """A sound token that was revoked."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and when it holds, in Unix seconds."""

    value: str = field(repr=False)
    resource: str
    client_id: str
    issued: int
    expires: int
    lifetime: int
    serial: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a token is about."""

    tenant_id: str
    client_id: str
    object_id: str
    resource_id: str


class TokenService:
    """Issues tokens, answers from its cache as the real service does, and checks them.

    Args:
        clock: the time.
        lifetime: seconds that a token lives.
        key: gives the key that signs them.

    Attributes:
        issued: the latest tokens, oldest first.
        revoked_to: tokens up to this serial number are revoked.
    """

    def __init__(self, clock: Clock, lifetime: int, key: Callable[[], SigningKey]) -> None:
        self.key = key
        self._clock = clock
        self._lifetime = lifetime
        self._cache: OrderedDict[tuple[str, str], IssuedToken] = OrderedDict()
        self._serial = 0
        self.revoked_to = 0
        self.issued: deque[IssuedToken] = deque(maxlen=_MOST_REMEMBERED)

    def forget(self) -> None:
        """Empty the cache and forget what was issued or revoked."""
        self._cache.clear()
        self.issued.clear()
        self.revoked_to = 0

    def revoke(self) -> None:
        """Revoke every token issued so far; the cache keeps serving them, as the real one does."""
        self.revoked_to = self._serial

    def token(
        self, principal: Principal, resource: str, *, bypass_cache: bool = False
    ) -> IssuedToken:
        """A token, from the cache until it expires.

        Args:
            principal: whom it is about.
            resource: its audience.
            bypass_cache: issue a new one, and cache that.

        Returns:
            The token.
        """
        key = (principal.client_id, resource)
        cached = self._cache.get(key)
        if cached is not None and not bypass_cache and cached.expires > self._clock.time():
            return cached
        fresh = self._issue(principal, resource, int(self._clock.time()), self._lifetime)
        self._cache[key] = fresh
        self._cache.move_to_end(key)
        if len(self._cache) > _MOST_CACHED:
            self._cache.popitem(last=False)
        return fresh

    def token_with_left(self, principal: Principal, resource: str, left: float) -> IssuedToken:
        """A token of which only so much is left, as out of an old cache.

        Args:
            principal: whom it is about.
            resource: its audience.
            left: seconds until it expires; zero or less gives an expired one.

        Returns:
            The token, which is not cached.
        """
        issued = int(self._clock.time() + left) - self._lifetime
        return self._issue(principal, resource, issued, self._lifetime)

    def _issue(
        self, principal: Principal, resource: str, issued: int, lifetime: int
    ) -> IssuedToken:
        self._serial += 1
        claims = _claims(principal, resource, issued, issued + lifetime)
        claims["uti"] = f"{self._serial:x}.{secrets.token_urlsafe(12)}"
        key = self.key()
        value = jwt.encode(
            claims, key.private, algorithm="RS256", headers={"kid": key.id, "x5t": key.id}
        )
        token = IssuedToken(
            value,
            resource,
            principal.client_id,
            issued,
            issued + lifetime,
            lifetime,
            self._serial,
        )
        self.issued.append(token)
        return token

    def check(self, value: str, audience: str, tenant_id: str) -> Mapping[str, Any]:
        """Check a token as a service that receives it would.

        Args:
            value: the token.
            audience: whom it must be for; a trailing slash makes no difference.
            tenant_id: the tenant that must have issued it.

        Returns:
            Its claims.

        Raises:
            RevokedTokenError: if it is sound, but was revoked.
            RefusedTokenError: if it is not sound; the message says why.
        """
        claims = self._decode(value, tenant_id)
        found = claims.get("aud")
        if not isinstance(found, str) or found.rstrip("/") != audience.rstrip("/"):
            raise RefusedTokenError(
                f"Invalid audience. Expected {audience}, found: {str(found)[:200]}."
            )
        now = self._clock.time()
        if not _number(claims, "nbf") <= now + 1:
            raise RefusedTokenError("The token is not valid yet.")
        if not now < _number(claims, "exp"):
            raise RefusedTokenError("The token has expired.")
        if _serial_of(claims) <= self.revoked_to:
            raise RevokedTokenError("The token was revoked.")
        return claims

    def _decode(self, value: str, tenant_id: str) -> dict[str, Any]:
        # PyJWT asks the machine's clock, so times are checked in check() against the emulator's.
        options: Options = {
            "verify_aud": False,
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        }
        try:
            return jwt.decode(
                value,
                self.key().public,
                algorithms=["RS256"],
                issuer=issuer_of(tenant_id),
                options=options,
            )
        except jwt.InvalidIssuerError as error:
            raise RefusedTokenError("The token was issued by another tenant.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise RefusedTokenError("The token's form or signature is not valid.") from error


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedTokenError(f"The token has no numeric {name} claim.")
    return value


def _serial_of(claims: Mapping[str, Any]) -> int:
    try:
        return int(str(claims.get("uti", "")).partition(".")[0], 16)
    except ValueError:
        return 0


def issuer_of(tenant_id: str) -> str:
    """The ``iss`` claim of a tenant's v1 tokens."""
    return f"https://sts.windows.net/{tenant_id}/"


def _claims(principal: Principal, resource: str, issued: int, expires: int) -> dict[str, Any]:
    issuer = issuer_of(principal.tenant_id)
    return {
        "aud": resource,
        "iss": issuer,
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "appid": principal.client_id,
        "appidacr": "2",
        "idp": issuer,
        "idtyp": "app",
        "oid": principal.object_id,
        "sub": principal.object_id,
        "tid": principal.tenant_id,
        "ver": "1.0",
        "xms_mirid": principal.resource_id,
    }

"""The key that signs tokens, with its public half for those who verify them."""

from __future__ import annotations

import base64
import functools
import hashlib
import threading

from cryptography.hazmat.primitives.asymmetric import rsa

_MAKING = threading.Lock()


class SigningKey:
    """An RSA key, with its public half as a JSON Web Key (RFC 7517)."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.public = self.private.public_key()
        numbers = self.public.public_numbers()
        modulus = numbers.n.to_bytes(256, "big")
        self.id = _base64url(hashlib.sha256(modulus).digest()[:20])
        self.jwk = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.id,
            "x5t": self.id,
            "n": _base64url(modulus),
            "e": _base64url(numbers.e.to_bytes(3, "big")),
        }


def signing_key() -> SigningKey:
    """This process's signing key; one for all emulators, because making one is slow."""
    with _MAKING:
        return _only_key()


@functools.cache
def _only_key() -> SigningKey:
    return SigningKey()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

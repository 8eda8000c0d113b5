"""The key that signs tokens."""

from __future__ import annotations

import base64
import functools
import hashlib
import threading
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from .key_store import KeyStore

_LOCK = threading.Lock()


class SigningKey:
    """An RSA key, with its public key as a JSON Web Key (RFC 7517)."""

    def __init__(self, private: rsa.RSAPrivateKey) -> None:
        self.private = private
        self.public = self.private.public_key()
        numbers = self.public.public_numbers()
        modulus = numbers.n.to_bytes(private.key_size // 8, "big")
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


def signing_key(store: KeyStore) -> SigningKey:
    """Return the signing key from a store; ValueError if the file is damaged.

    Emulators without a store share one key per process, because key generation is slow.
    """
    if store.directory is None:
        with _LOCK:
            return _shared()
    key = store.load_or_create_key("token-signing", rsa_key)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(  # noqa: TRY004 - the file's content is wrong, not an argument
            f"state: token-signing.key in {store.directory} is not an RSA key; remove it."
        )
    return SigningKey(key)


@functools.cache
def _shared() -> SigningKey:
    return SigningKey(rsa_key())


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

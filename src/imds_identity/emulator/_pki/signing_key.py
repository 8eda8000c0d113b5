"""The key that signs tokens."""

from __future__ import annotations

import base64
import functools
import hashlib
import random
import threading
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from .key_store import KeyStore

_LOCK = threading.Lock()
_EXPONENT = 65537
_PRIME_BITS = 1024
_SIEVED = 10_000


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


def signing_key(store: KeyStore, seed: int | None = None) -> SigningKey:
    """Return the key of a seed, or else from a store; ValueError if the file is damaged.

    Emulators without a store share one key per process, because key generation is slow.
    """
    if store.directory is None or seed is not None:
        with _LOCK:
            return _shared(seed)
    key = store.load_or_create_key("token-signing", rsa_key)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(  # noqa: TRY004 - the file's content is wrong, not an argument
            f"state: token-signing.key in {store.directory} is not an RSA key; remove it."
        )
    return SigningKey(key)


@functools.cache
def _shared(seed: int | None) -> SigningKey:
    return SigningKey(rsa_key() if seed is None else _seeded_rsa_key(seed))


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=_EXPONENT, key_size=2 * _PRIME_BITS)


def _seeded_rsa_key(seed: int) -> rsa.RSAPrivateKey:
    """Return the same key for the same seed, which OpenSSL cannot do."""
    numbers = random.Random(f"token-signing {seed}")  # noqa: S311 - as secret as the seed
    p, q = _prime(numbers), _prime(numbers)
    d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(_EXPONENT, p * q)
    rest = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    return rsa.RSAPrivateNumbers(p, q, d, *rest, public).private_key()


def _prime(numbers: random.Random) -> int:
    """Return a probable prime with the two highest bits set, one more than no multiple of e."""
    highest = 3 << (_PRIME_BITS - 2)
    start = numbers.getrandbits(_PRIME_BITS) | highest | 1
    small = [n for n in range(3, _SIEVED, 2) if all(n % k for k in range(3, int(n**0.5) + 1, 2))]
    # The steps that lead to a multiple of a small prime are left out.
    sieve = bytearray(_SIEVED)
    for divisor in small:
        first = -start * pow(2, -1, divisor) % divisor
        sieve[first::divisor] = b"\1" * len(range(first, _SIEVED, divisor))
    for step in range(_SIEVED):
        candidate = start + 2 * step
        if not sieve[step] and pow(2, candidate - 1, candidate) == 1 and candidate % _EXPONENT != 1:
            return candidate
    raise ArithmeticError("no prime")  # less likely than a failure of the hardware


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

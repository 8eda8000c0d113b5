"""SHA-256 without OpenSSL: `hashlib` loads it, which doubles the memory of a small program."""

from __future__ import annotations

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found] # Python 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:  # not CPython
        from hashlib import sha256 as _sha256


def sha256(content: bytes) -> str:
    """Return the SHA-256 digest of ``content`` in hexadecimal digits."""
    digest: str = _sha256(content).hexdigest()
    return digest

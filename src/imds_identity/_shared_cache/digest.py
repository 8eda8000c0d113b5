"""SHA-256 without OpenSSL, which hashlib would load at each start of the command line.

The standard library's own `random` takes its hash from the same modules, for the same reason.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _implementation() -> Any:
    for module in ("_sha2", "_sha256"):
        try:
            return __import__(module).sha256
        except ImportError:  # of another version of Python, or built without it
            continue
    return __import__("hashlib").sha256


_sha256 = _implementation()


def sha256(content: bytes) -> str:
    """The digest of ``content`` in hexadecimal."""
    return str(_sha256(content).hexdigest())

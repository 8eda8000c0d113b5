"""A secret that can be used but not displayed, and digests."""

from __future__ import annotations

# SHA-256 without OpenSSL: `hashlib` loads it, which doubles the memory of a small program.
try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found] # Python 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:  # not CPython
        from hashlib import sha256 as _sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


HIDDEN = "<hidden>"
_MIN_PART = 8
_MIN_SECRET = 4


class Secret:
    """A text that repr, str and pickle do not contain; only `reveal` returns it.

    Args:
        value: the text.
        prefix: text that `reveal` puts before it and that is not secret, such as ``Basic``.
    """

    __slots__ = ("_prefix", "_value")

    def __init__(self, value: str, prefix: str = "") -> None:
        self._value = value
        self._prefix = prefix

    def reveal(self) -> str:
        """Return the text, to send it."""
        return self._prefix + self._value

    def after(self, prefix: str) -> Secret:
        """Return a copy with ``prefix``, which is not secret."""
        return Secret(self._value, prefix + self._prefix)

    def fits_a_header(self) -> bool:
        """Whether it is non-empty printable ASCII."""
        return bool(self._value) and self._value.isascii() and self._value.isprintable()

    def redacted(self, text: str) -> str:
        """Return ``text`` without this secret: verbatim, in parts, percent-encoded, or in base64.

        Any eight consecutive letters or digits of the secret count as a part, regardless of case
        and of other characters between them. A secret of fewer than four characters, as in a
        test, is not removed: it occurs in too many words.
        """
        if len(self._value) < _MIN_SECRET:
            return text
        # Leave `HIDDEN` as it is: another secret may be a part of that word.
        return HIDDEN.join(map(self._redacted, text.split(HIDDEN)))

    def _redacted(self, text: str) -> str:
        positions = [i for i, c in enumerate(text) if c.isascii() and c.isalnum()]
        bare = "".join(text[i] for i in positions).lower()
        shown: list[str] = []
        end = 0
        for first, last in self._found_in(bare):
            shown += text[end : positions[first]], HIDDEN
            end = positions[last] + 1
        return "".join(shown) + text[end:]

    def _found_in(self, bare: str) -> list[tuple[int, int]]:
        """Return first and last position of each range of ``bare`` that consists of parts."""
        ranges: list[tuple[int, int]] = []
        for form in (_bare(form) for form in self._forms()):
            size = min(_MIN_PART, len(form))
            parts = {form[i : i + size] for i in range(len(form) - size + 1)} - {""}
            hits = (i for i in range(len(bare) - size + 1) if bare[i : i + size] in parts)
            ranges += ((i, i + size - 1) for i in hits)
        return _joined(sorted(ranges))

    def _forms(self) -> list[str]:
        import base64
        from urllib.parse import quote

        raw = self._value.encode("utf-8", "surrogatepass")
        # Three bytes are four digits of base64: the text before the secret shifts it to one of
        # three forms, and its first and last digits depend on the text before and after it.
        shifted = (base64.b64encode(b"\0" * shift + raw).decode() for shift in range(3))
        return [self._value, quote(self._value, safe="", errors="replace"), raw.hex()] + [
            form.rstrip("=")[4:-2] for form in shifted if len(raw) > _MIN_PART
        ]

    def __repr__(self) -> str:
        return HIDDEN

    def __len__(self) -> int:
        return len(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


def _bare(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum()).lower()


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined


def sha256(content: bytes) -> str:
    """Return the SHA-256 digest of ``content`` in hexadecimal digits."""
    digest: str = _sha256(content).hexdigest()
    return digest

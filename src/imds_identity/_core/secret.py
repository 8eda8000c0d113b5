"""A secret that is used and never shown."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


HIDDEN = "<hidden>"
_PIECE = 8


class Secret:
    """A text that only `reveal` gives away: not its repr, not its str, and no pickle.

    Args:
        value: the text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for whoever sends it."""
        return self._value

    def after(self, prefix: str) -> Secret:
        """``prefix`` followed by this secret, as secret as this."""
        return Secret(prefix + self._value)

    def fits_a_header(self) -> bool:
        """Whether it is printable ASCII, and not empty."""
        return bool(self._value) and self._value.isascii() and self._value.isprintable()

    def redacted(self, text: str) -> str:
        """``text`` without this secret: as it is, in pieces, percent-encoded or in base64.

        Eight letters or digits in a row that the secret has, too, are taken for a piece of it,
        whatever stands between them and whatever their case.
        """
        places = [i for i, c in enumerate(text) if c.isascii() and c.isalnum()]
        bare = "".join(text[i] for i in places).lower()
        shown: list[str] = []
        end = 0
        for first, last in self._found_in(bare):
            shown += text[end : places[first]], HIDDEN
            end = places[last] + 1
        return "".join(shown) + text[end:]

    def _found_in(self, bare: str) -> list[tuple[int, int]]:
        """First and last position of each stretch of ``bare`` that is made of pieces."""
        stretches: list[tuple[int, int]] = []
        for form in (_bare(form) for form in self._forms()):
            size = min(_PIECE, len(form))
            pieces = {form[i : i + size] for i in range(len(form) - size + 1)} - {""}
            hits = (i for i in range(len(bare) - size + 1) if bare[i : i + size] in pieces)
            stretches += ((i, i + size - 1) for i in hits)
        return _joined(sorted(stretches))

    def _forms(self) -> list[str]:
        import base64
        from urllib.parse import quote

        raw = self._value.encode("utf-8", "surrogatepass")
        # Three bytes are four digits of base64: what goes before shifts them to one of three forms,
        # and the first and the last digits depend on what goes before and after.
        shifted = (base64.b64encode(b"\0" * shift + raw).decode() for shift in range(3))
        return [self._value, quote(self._value, safe="", errors="replace"), raw.hex()] + [
            form.rstrip("=")[4:-2] for form in shifted if len(raw) > _PIECE
        ]

    def __repr__(self) -> str:
        return HIDDEN

    def __len__(self) -> int:
        return len(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be pickled")


def _bare(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isalnum()).lower()


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in stretches:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined

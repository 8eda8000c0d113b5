"""Random texts in place of this package's own messages, which the doctor must not depend on."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from imds_identity._core.failure import Failure
from imds_identity._http.exchange import TransportError

if TYPE_CHECKING:
    import pytest

WORDINGS = ("original messages", "random messages")
# Phrases that once decided checks are among the words.
_WORDS = (
    "AADSTS500011", "AADSTS700016", "apple", "cannot", "confirm", "did not confirm", "fog",
    "invalid_resource", "is not the metadata service", "key file", "lantern", "may not read",
    "multiple", "not found", "Permission denied", "quarry", "refused", "unreachable", "willow",
)  # fmt: skip


def reword(monkeypatch: pytest.MonkeyPatch, wording: str) -> None:
    """Give each failure random texts, unless ``wording`` is the original one.

    A failure keeps its reason, its status and the service's error code.
    """
    if wording == WORDINGS[0]:
        return
    generator = random.Random(wording)
    original = Failure.__init__

    def random_text() -> str:
        return " ".join(generator.choices(_WORDS, k=generator.randint(1, 12)))

    def initialize(self: Failure, problem: str, hint: str = "", **facts: Any) -> None:
        original(self, random_text(), random_text(), **facts)

    monkeypatch.setattr(Failure, "__init__", initialize)
    monkeypatch.setattr(TransportError, "__str__", lambda self: random_text())

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from imds_identity._shared_cache import digest

if TYPE_CHECKING:
    import pytest


@given(st.binary())
def test_it_is_sha256(content: bytes) -> None:
    assert digest.sha256(content) == hashlib.sha256(content).hexdigest()


def test_a_python_built_without_its_own_hashes_has_hashlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for own in ("_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, own, None)
    assert digest._implementation() is hashlib.sha256

"""The clocks of the operating systems."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import Any

import pytest

from imds_identity._platform import clock


@pytest.mark.skipif(sys.platform != "linux", reason="needs the clocks of Linux")
@pytest.mark.parametrize(
    ("platform", "name"),
    [("linux", "CLOCK_BOOTTIME"), ("darwin", "CLOCK_MONOTONIC"), ("freebsd14", "CLOCK_MONOTONIC")],
)
def test_time_goes_on_while_a_machine_is_suspended(
    monkeypatch: pytest.MonkeyPatch, platform: str, name: str
) -> None:
    """On macOS, unlike on Linux, CLOCK_MONOTONIC does not stop then."""
    spec: Any = importlib.util.spec_from_file_location(
        "imds_identity._platform.another_clock", clock.__file__
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "platform", platform)
    spec.loader.exec_module(module)
    before = time.clock_gettime(getattr(time, name))
    now = module.SYSTEM_CLOCK.now()
    assert before <= now <= time.clock_gettime(getattr(time, name))

"""What tells the services of one address apart."""

from __future__ import annotations

import _socket
import subprocess
import sys

import pytest

from imds_identity._machine import place as place_module
from imds_identity._machine.place import Place, this_place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such thing")

SCRIPT = "from imds_identity._machine.place import this_place; print(*this_place())"


def place_of(*command: str) -> Place:
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return Place(*done.stdout.split())


def test_processes_of_one_network_are_in_one_place() -> None:
    assert place_of() == this_place() == this_place()
    assert all(this_place())


def test_each_network_namespace_is_a_place_that_never_comes_again() -> None:
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace to be had here")
    # Its number comes again as soon as a namespace is gone.
    places = {place_of("unshare", "-n") for _ in range(4)}
    assert len(places | {this_place()}) == 5
    assert {place.boot for place in places} == {this_place().boot}


def test_an_old_kernel_tells_them_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise OSError(92, "Protocol not available")

    monkeypatch.setattr(_socket, "socket", refused)
    first = this_place()
    assert first == this_place()
    assert ":" in first.network


def test_where_proc_is_masked_there_is_still_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object) -> None:
        raise OSError(2, "No such file or directory")

    place_module._boot.cache_clear()
    monkeypatch.setattr("builtins.open", missing)
    try:
        assert this_place().boot == ""
    finally:
        place_module._boot.cache_clear()

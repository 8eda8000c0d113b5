"""What tells the services of one address apart."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from imds_identity._shared_cache import namespace as place_module
from imds_identity._shared_cache.namespace import Namespace, current_namespace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such thing")

SCRIPT = """
from imds_identity._shared_cache.namespace import current_namespace
print(*current_namespace())
"""


def place_of(*command: str) -> Namespace:
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return Namespace(*done.stdout.split())


def test_processes_of_one_network_are_in_one_place() -> None:
    assert place_of() == current_namespace() == current_namespace()
    assert all(current_namespace())


def test_each_network_namespace_is_a_place_that_never_comes_again() -> None:
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace to be had here")
    # Its number comes again as soon as a namespace is gone.
    places = {place_of("unshare", "-n") for _ in range(4)}
    assert len(places | {current_namespace()}) == 5
    assert {namespace.boot for namespace in places} == {current_namespace().boot}


@pytest.mark.parametrize("error", [OSError(92, "Protocol not available"), RuntimeError("blocked")])
def test_without_a_cookie_the_inode_number_identifies_a_network(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Linux before 5.14 has no cookies, and pytest-socket refuses to create a socket."""

    def refused(*args: object) -> None:
        raise error

    monkeypatch.setattr(socket, "socket", refused)
    first = current_namespace()
    assert first == current_namespace()
    assert ":" in first.network


def test_where_proc_is_masked_there_is_still_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object) -> None:
        raise OSError(2, "No such file or directory")

    place_module._boot.cache_clear()
    monkeypatch.setattr("builtins.open", missing)
    try:
        assert current_namespace().boot == ""
    finally:
        place_module._boot.cache_clear()

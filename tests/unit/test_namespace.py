"""The namespace that distinguishes services of the same address."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from imds_identity._shared_cache import namespace as namespace_module
from imds_identity._shared_cache.namespace import (
    Namespace,
    current_namespace,
    namespace_of,
    other_network,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has network namespaces")

SCRIPT = """
from imds_identity._shared_cache.namespace import current_namespace
print(*current_namespace())
"""


def namespace_printed_by(*command: str) -> Namespace:
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return Namespace(*done.stdout.split())


def test_processes_of_one_network_have_the_same_namespace() -> None:
    assert namespace_printed_by() == current_namespace() == current_namespace()
    assert all(current_namespace())


def test_each_network_has_a_namespace_that_is_never_reused() -> None:
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("cannot create a network namespace")
    # The kernel uses an inode number again as soon as its namespace is gone.
    namespaces = {namespace_printed_by("unshare", "-n") for _ in range(4)}
    assert len(namespaces | {current_namespace()}) == 5
    assert {namespace.boot for namespace in namespaces} == {current_namespace().boot}


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


def test_namespace_without_proc_has_no_boot_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object) -> None:
        raise OSError(2, "No such file or directory")

    namespace_module._boot.cache_clear()
    monkeypatch.setattr("builtins.open", missing)
    try:
        assert current_namespace().boot == ""
    finally:
        namespace_module._boot.cache_clear()


def test_thread_in_the_network_of_the_import_has_no_other_network() -> None:
    assert other_network() == ""


def test_network_is_identified_without_a_directory_for_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Linux has /proc/thread-self since 3.17, and some sandboxes do not have it."""
    inode, stat = namespace_module.network_inode(), os.stat

    def without_threads(path: Any, **keywords: Any) -> os.stat_result:
        if "thread-self" in str(path):
            raise FileNotFoundError(path)
        return stat(path, **keywords)

    monkeypatch.setattr(os, "stat", without_threads)
    assert namespace_module.network_inode() == inode != ""


def test_network_whose_inode_differs_is_identified_by_its_cookie(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An inode number is used again after its namespace is gone."""
    monkeypatch.setattr(namespace_module, "_INITIAL_INODE", "another")
    assert other_network() == current_namespace().network
    assert namespace_of(other_network()) == current_namespace()
    monkeypatch.setattr(namespace_module, "_INITIAL_INODE", "")
    assert other_network() == ""  # without /proc, namespaces cannot be distinguished

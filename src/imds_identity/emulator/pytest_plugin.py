"""pytest fixtures: an emulated VM, an emulated Arc server, and a factory for anything else.

pytest loads this module in every run of a project that has the package, so it imports nothing else
until a fixture is used.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

# Variables that would lead a client to another service than the emulator.
_VARIABLES = (
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
)


def _started(stack: ExitStack, **arguments: Any) -> Emulator:
    try:
        from imds_identity.emulator import Emulator
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    return stack.enter_context(Emulator(**arguments))


def _point_at(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)
    # Tokens of an emulator must not be shared with processes outside the test.
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "off")


@pytest.fixture
def emulator_factory() -> Iterator[Callable[..., Emulator]]:
    """A function that starts emulators; it takes `Emulator`'s arguments.

    They stop at the end of the test. The environment is left as it is: use
    ``emulator.environment()``.
    """
    with ExitStack() as stack:
        yield lambda profile="vm", **arguments: _started(stack, profile=profile, **arguments)


@pytest.fixture
def imds_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure VM that the test's environment leads to."""
    with ExitStack() as stack:
        emulator = _started(stack, profile="vm")
        _point_at(emulator, monkeypatch)
        yield emulator


@pytest.fixture
def arc_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure Arc server that the test's environment leads to.

    Clients must be told of its `tokens_directory`, because no variable may name that.
    """
    with ExitStack() as stack:
        emulator = _started(stack, profile="arc")
        _point_at(emulator, monkeypatch)
        yield emulator

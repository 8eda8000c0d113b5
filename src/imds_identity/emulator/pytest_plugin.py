"""pytest fixtures: an emulated VM, an emulated Arc server, and a factory for other emulators.

pytest loads this module in every environment in which the package is installed, so it imports the
emulator only when a fixture is used.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator


def _start(stack: ExitStack, **arguments: Any) -> Emulator:
    try:
        from imds_identity.emulator import Emulator
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    return stack.enter_context(Emulator(**arguments))


def _set_environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from imds_identity.emulator._profiles.profiles import MISLEADING_VARIABLES

    for name in MISLEADING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def emulator_factory() -> Iterator[Callable[..., Emulator]]:
    """A function that starts an emulator; it takes the arguments of `Emulator`.

    The emulators stop at the end of the test. The fixture does not change the environment: use
    ``emulator.environment()``.
    """
    with ExitStack() as stack:
        yield lambda profile="vm", **arguments: _start(stack, profile=profile, **arguments)


@contextmanager
def _emulator_in_environment(profile: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with ExitStack() as stack:
        emulator = _start(stack, profile=profile)
        _set_environment(emulator, monkeypatch)
        yield emulator


@pytest.fixture
def imds_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure VM, to which the environment variables direct clients during a test."""
    with _emulator_in_environment("vm", monkeypatch) as emulator:
        yield emulator


@pytest.fixture
def arc_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure Arc server, to which the environment variables direct clients.

    Pass its `tokens_directory` to clients, because there is no environment variable for it.
    """
    with _emulator_in_environment("arc", monkeypatch) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def _session_monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    # The fixture of pytest undoes its changes after each test.
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="session")
def imds_emulator_session(_session_monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure VM, like `imds_emulator`, for the whole test session.

    ``imds_emulator_session.reset()`` removes the requests, events and faults of earlier tests.
    """
    with _emulator_in_environment("vm", _session_monkeypatch) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def arc_emulator_session(_session_monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure Arc server, like `arc_emulator`, for the whole test session."""
    with _emulator_in_environment("arc", _session_monkeypatch) as emulator:
        yield emulator

"""pytest fixtures: an emulated VM, an emulated Arc server, and a factory for anything else.

pytest loads this module in every run of a project that has the package, so it imports nothing else
until a fixture is used.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator


def _started(stack: ExitStack, **arguments: Any) -> Emulator:
    try:
        from imds_identity.emulator import Emulator
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    return stack.enter_context(Emulator(**arguments))


def _point_at(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from imds_identity.emulator._profiles.profiles import MISLEADING

    for name in MISLEADING:
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def emulator_factory() -> Iterator[Callable[..., Emulator]]:
    """A function that starts emulators; it takes `Emulator`'s arguments.

    They stop at the end of the test. The environment is left as it is: use
    ``emulator.environment()``.
    """
    with ExitStack() as stack:
        yield lambda profile="vm", **arguments: _started(stack, profile=profile, **arguments)


@contextmanager
def _leading(profile: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with ExitStack() as stack:
        emulator = _started(stack, profile=profile)
        _point_at(emulator, monkeypatch)
        yield emulator


@pytest.fixture
def imds_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure VM that the test's environment leads to."""
    with _leading("vm", monkeypatch) as emulator:
        yield emulator


@pytest.fixture
def arc_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure Arc server that the test's environment leads to.

    Clients must be told of its `tokens_directory`, because no variable may name that.
    """
    with _leading("arc", monkeypatch) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def _session_monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    # pytest's own ends with each test.
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="session")
def imds_emulator_session(_session_monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure VM that the environment leads to from its first use to the last test.

    ``imds_emulator_session.reset()`` forgets what earlier tests did.
    """
    with _leading("vm", _session_monkeypatch) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def arc_emulator_session(_session_monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulated Azure Arc server, as `imds_emulator_session` is a VM."""
    with _leading("arc", _session_monkeypatch) as emulator:
        yield emulator

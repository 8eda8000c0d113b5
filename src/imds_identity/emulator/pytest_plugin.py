"""pytest fixtures: an emulator of each profile, and a factory for other emulators.

A test chooses options with a marker: ``@pytest.mark.imds_emulator(profile="arc", limits=True)``.
pytest loads this module in every environment in which the package is installed, so it imports the
emulator only when a fixture is used.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imds_identity.emulator import Emulator

_MARKER = "imds_emulator"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(profile, **options): options of the emulators that this test's fixtures start, "
        "such as limits=True; the profile is for the fixture imds_emulator",
    )


def _start(stack: ExitStack, options: dict[str, Any]) -> Emulator:
    try:
        from imds_identity.emulator import Emulator
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        emulator = Emulator(**options)
    except (TypeError, ValueError) as error:
        pytest.fail(f"The options of the emulator are not valid: {error}", pytrace=False)
    return stack.enter_context(emulator)


def _set_environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from imds_identity.emulator._profiles.profiles import MISLEADING_VARIABLES

    for name in MISLEADING_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in emulator.environment().items():
        monkeypatch.setenv(name, value)


def _marked_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the options in the markers of a test; the closest marker takes precedence."""
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers(_MARKER):
        if len(marker.args) > 1:
            message = f"The marker {_MARKER} takes one argument without a name, the profile."
            pytest.fail(message, pytrace=False)
        given = dict(zip(("profile",), marker.args, strict=False))
        options = {**given, **marker.kwargs, **options}
    return options


@pytest.fixture
def emulator_factory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Emulator]]:
    """A function that starts an emulator; it takes the arguments of `Emulator`.

    With ``set_environment=True``, the environment variables direct clients to the emulator until
    the end of the test. All emulators stop then.
    """
    with ExitStack() as stack:

        def start(
            profile: str = "vm", *, set_environment: bool = False, **options: Any
        ) -> Emulator:
            emulator = _start(stack, {"profile": profile, **options})
            if set_environment:
                _set_environment(emulator, monkeypatch)
            return emulator

        yield start


def _fixture(profile: str, machine: str) -> Any:
    def start(
        request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Emulator]:
        options = _marked_options(request)
        if request.fixturename != _MARKER:
            options["profile"] = profile
        with ExitStack() as stack:
            emulator = _start(stack, {"profile": profile, **options})
            _set_environment(emulator, monkeypatch)
            yield emulator

    start.__doc__ = f"An emulated {machine}, to which the environment variables direct clients."
    return pytest.fixture(start)


def _session_fixture(profile: str, machine: str) -> Any:
    def start(_session_monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
        with ExitStack() as stack:
            emulator = _start(stack, {"profile": profile})
            _set_environment(emulator, _session_monkeypatch)
            yield emulator

    start.__doc__ = f"An emulated {machine} for the whole session; reset() forgets earlier tests."
    return pytest.fixture(scope="session")(start)


@pytest.fixture(scope="session")
def _session_monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    # The fixture of pytest undoes its changes after each test.
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


imds_emulator = _fixture("vm", "Azure VM, or the profile of the marker imds_emulator")
# Pass its tokens_directory to clients, because there is no environment variable for it.
arc_emulator = _fixture("arc", "Azure Arc server")
stack_hub_emulator = _fixture("stack-hub", "VM on Azure Stack Hub")
app_service_emulator = _fixture("app-service", "App Service")
functions_emulator = _fixture("functions", "function app")
container_apps_emulator = _fixture("container-apps", "container app")
azure_ml_emulator = _fixture("azure-ml", "Azure Machine Learning compute instance")
cloud_shell_emulator = _fixture("cloud-shell", "Cloud Shell")
service_fabric_emulator = _fixture("service-fabric", "Service Fabric node")
aci_emulator = _fixture("aci", "container group of Container Instances")
workload_identity_emulator = _fixture("workload-identity", "Kubernetes workload")
identity_binding_emulator = _fixture("identity-binding", "workload with an AKS identity binding")
imds_emulator_session = _session_fixture("vm", "Azure VM")
arc_emulator_session = _session_fixture("arc", "Azure Arc server")

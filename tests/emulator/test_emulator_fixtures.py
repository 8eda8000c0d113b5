from __future__ import annotations

import os
from typing import TYPE_CHECKING, get_args

import pytest

from imds_identity.emulator._settings import Profile

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.support import Send
    from imds_identity.emulator import Emulator

pytest_plugins = ["pytester"]


def test_vm_fixture_sets_the_environment(imds_emulator: Emulator, request_token: Send) -> None:
    assert os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] == imds_emulator.endpoint
    assert "IDENTITY_ENDPOINT" not in os.environ
    assert request_token(imds_emulator).status_code == 200


def test_arc_fixture_sets_the_environment(arc_emulator: Emulator, request_arc_token: Send) -> None:
    assert os.environ["IMDS_ENDPOINT"] == arc_emulator.endpoint
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST" not in os.environ
    assert request_arc_token(arc_emulator).status_code == 200


def test_factory_starts_any_profile_and_keeps_the_environment(
    emulator_factory: Callable[..., Emulator],
) -> None:
    before = dict(os.environ)
    old, app = emulator_factory("arc", arc_agent="older"), emulator_factory("app-service")
    assert old.endpoint != app.endpoint
    assert dict(os.environ) == before


def test_factory_sets_the_environment_if_asked(
    emulator_factory: Callable[..., Emulator],
) -> None:
    emulator = emulator_factory("app-service", set_environment=True, identity_header="own")
    assert os.environ["IDENTITY_ENDPOINT"].startswith(emulator.endpoint)
    assert os.environ["IDENTITY_HEADER"] == "own"
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST" not in os.environ


@pytest.mark.imds_emulator(token_lifetime=60)
class TestMarkers:
    @pytest.mark.imds_emulator("arc", arc_agent="older")
    def test_closest_marker_takes_precedence_and_others_add_options(
        self, imds_emulator: Emulator, request_arc_token: Send
    ) -> None:
        assert imds_emulator.profile == "arc"
        assert request_arc_token(imds_emulator).json()["ext_expires_in"] == "60"

    @pytest.mark.imds_emulator(profile="arc")
    def test_fixture_of_a_profile_takes_only_the_other_options(
        self, app_service_emulator: Emulator
    ) -> None:
        assert app_service_emulator.profile == "app-service"


@pytest.mark.parametrize("profile", get_args(Profile))
def test_every_profile_has_a_fixture(request: pytest.FixtureRequest, profile: str) -> None:
    name = "imds" if profile == "vm" else profile.replace("-", "_")
    emulator = request.getfixturevalue(f"{name}_emulator")
    assert emulator.profile == profile
    assert emulator.environment().items() <= os.environ.items()


@pytest.mark.parametrize("scope", ["", "_session"])
def test_async_tests_can_use_the_fixtures(pytester: pytest.Pytester, scope: str) -> None:
    pytester.makepyfile(
        f"""
import pytest
from imds_identity.aio import ManagedIdentityCredential

@pytest.mark.anyio
async def test_it(imds_emulator{scope}):
    async with ManagedIdentityCredential() as credential:
        await credential.get_token("https://vault.azure.net/.default")
    assert len(imds_emulator{scope}.token_requests) == 1

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('"vm", limit=True', "*no option 'limit'. Did you mean limits?"),
        ('profile="app-servic"', "*profile must be one of vm, arc,*"),
        ('"vm", "arc"', "*takes one argument without a name, the profile."),
    ],
)
def test_wrong_marker_is_explained(pytester: pytest.Pytester, marker: str, message: str) -> None:
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.imds_emulator({marker})\ndef test_it(imds_emulator): pass"
    )
    result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_fixture_fails_without_the_extra_and_says_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_it(imds_emulator): pass")
    pytester.makeconftest("import sys; sys.modules['aiohttp'] = None")
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install 'imds-identity[[]emulator[]]'*"])


@pytest.fixture
def count_passed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], int]:
    """A function that runs a test file and returns how many of its tests pass."""
    for name in ("IMDS_IDENTITY_CACHE", "AZURE_POD_IDENTITY_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)

    def run(text: str) -> int:
        pytester.makepyfile(text)
        result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:xdist")
        return result.parseoutcomes().get("passed", 0)

    return run


def test_environment_is_restored_after_a_test_that_changes_it(
    count_passed: Callable[[str], int],
) -> None:
    tests = """
import os

def test_one(monkeypatch, imds_emulator):
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "other")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "other")

def test_two():
    assert not {"IMDS_IDENTITY_CACHE", "AZURE_POD_IDENTITY_AUTHORITY_HOST"} & set(os.environ)
"""
    assert count_passed(tests) == 2


def test_session_fixtures_last_for_the_session(count_passed: Callable[[str], int]) -> None:
    tests = """
import os

def test_one(imds_emulator_session):
    assert os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] == imds_emulator_session.endpoint
    imds_emulator_session.fault(status=500)

def test_two(imds_emulator_session, arc_emulator):
    assert len(imds_emulator_session.faults) == 1
    assert os.environ["IDENTITY_ENDPOINT"].startswith(arc_emulator.endpoint)

def test_three():
    assert os.environ["IMDS_IDENTITY_CACHE"] == "off"
    assert "IDENTITY_ENDPOINT" not in os.environ
"""
    assert count_passed(tests) == 3

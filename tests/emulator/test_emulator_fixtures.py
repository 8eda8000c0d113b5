from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.support import Ask
    from imds_identity.emulator import Emulator

pytest_plugins = ["pytester"]


def test_the_vm_fixture_leads_the_environment_to_it(imds_emulator: Emulator, ask: Ask) -> None:
    assert os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] == imds_emulator.endpoint
    assert "IDENTITY_ENDPOINT" not in os.environ
    assert ask(imds_emulator).status_code == 200


def test_the_arc_fixture_leads_the_environment_to_it(arc_emulator: Emulator, ask_arc: Ask) -> None:
    assert os.environ["IMDS_ENDPOINT"] == arc_emulator.endpoint
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST" not in os.environ
    assert ask_arc(arc_emulator).status_code == 200


def test_the_factory_makes_any_and_leaves_the_environment_alone(
    emulator_factory: Callable[..., Emulator],
) -> None:
    before = dict(os.environ)
    old, app = emulator_factory("arc", arc_agent="older"), emulator_factory("app-service")
    assert old.endpoint != app.endpoint
    assert dict(os.environ) == before


def test_without_the_extra_a_fixture_fails_with_what_to_install(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_it(imds_emulator): pass")
    pytester.makeconftest("import sys; sys.modules['aiohttp'] = None")
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install 'imds-identity[[]emulator[]]'*"])


@pytest.fixture
def passed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """How many tests of a file pass, in an environment that leads nowhere."""
    for name in ("IMDS_IDENTITY_CACHE", "AZURE_POD_IDENTITY_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)

    def run(text: str) -> int:
        pytester.makepyfile(text)
        result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:xdist")
        return result.parseoutcomes().get("passed", 0)

    return run


def test_what_a_test_changes_of_the_environment_is_as_before_afterwards(
    passed: Callable[[str], int],
) -> None:
    tests = """
import os

def test_one(monkeypatch, imds_emulator):
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", "elsewhere")
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "elsewhere")

def test_two():
    assert not {"IMDS_IDENTITY_CACHE", "AZURE_POD_IDENTITY_AUTHORITY_HOST"} & set(os.environ)
"""
    assert passed(tests) == 2


def test_fixtures_may_last_for_a_session(passed: Callable[[str], int]) -> None:
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
    assert passed(tests) == 3

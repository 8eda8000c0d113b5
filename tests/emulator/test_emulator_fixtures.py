from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

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


def test_what_a_test_changes_of_the_environment_is_as_before_afterwards(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IMDS_IDENTITY_CACHE", "AZURE_POD_IDENTITY_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(
        "import os\n"
        "def test_one(monkeypatch, imds_emulator):\n"
        "    monkeypatch.setenv('IMDS_IDENTITY_CACHE', 'elsewhere')\n"
        "    monkeypatch.setenv('AZURE_POD_IDENTITY_AUTHORITY_HOST', 'elsewhere')\n"
        "def test_two():\n"
        "    names = {'IMDS_IDENTITY_CACHE', 'AZURE_POD_IDENTITY_AUTHORITY_HOST'}\n"
        "    assert not names & set(os.environ)\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist")
    result.assert_outcomes(passed=2)

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

import imds_identity
from imds_identity._platform.environment import Environment, patched_environ


def test_environment_is_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://before")
    environment = Environment()
    monkeypatch.setenv("MSI_ENDPOINT", "http://after")
    assert environment["MSI_ENDPOINT"] == "http://before"
    assert Environment()["MSI_ENDPOINT"] == "http://after"


def test_unset_variable_is_empty_and_unknown_variable_is_an_error() -> None:
    environment = Environment({"HOME": "/root"})
    assert environment["MSI_ENDPOINT"] == ""
    with pytest.raises(KeyError):
        environment["HOME"]


def test_variables_can_be_left_out() -> None:
    environment = Environment({"MSI_ENDPOINT": "http://m", "MSI_SECRET": "s", "MSI_OTHER": "x"})
    rest = environment.without("MSI_SECRET", "IDENTITY_HEADER")
    assert (rest["MSI_ENDPOINT"], rest["MSI_SECRET"]) == ("http://m", "")
    assert environment["MSI_SECRET"] == "s"


def test_another_thread_may_unset_a_variable_during_the_snapshot() -> None:
    class Vanishing(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            raise KeyError(name)

        def get(self, name: str, default: Any = None) -> Any:
            return default

    assert Environment(Vanishing(MSI_ENDPOINT="http://m"))["MSI_ENDPOINT"] == ""


def test_every_variable_that_the_package_reads_is_in_the_snapshot() -> None:
    reads = r'(?:environment|env|Environment\(\))\["(\w+)"\](?! = )|variable_value\("(\w+)"\)'
    folder, names = Path(imds_identity.__file__).parent, set[str]()
    for file in folder.rglob("*.py"):
        if "emulator" in file.parts:
            continue
        text = file.read_text("utf-8")
        names |= {first or second for first, second in re.findall(reads, text)}
        if "add_variables(" in text:
            path = file.relative_to(folder.parent).with_suffix("")
            importlib.import_module(".".join(path.parts))
    assert {"AZURE_CLIENT_ID", "REQUESTS_CA_BUNDLE", "no_proxy"} <= names
    environment = Environment(dict.fromkeys(names, "x"))
    assert [name for name in names if environment[name] != "x"] == []


def test_repr_contains_names_and_no_values() -> None:
    environment = Environment({"MSI_ENDPOINT": "http://m", "MSI_SECRET": "s3cret", "HOME": "/x"})
    assert repr(environment) == "Environment(['MSI_ENDPOINT', 'MSI_SECRET'])"


def test_patched_environ_restores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://own")
    before = dict(os.environ)
    with (
        pytest.raises(LookupError),
        patched_environ({"MSI_ENDPOINT": "http://patched", "MSI_SECRET": "s"}),
    ):
        assert (os.environ["MSI_ENDPOINT"], os.environ["MSI_SECRET"]) == ("http://patched", "s")
        raise LookupError
    assert dict(os.environ) == before

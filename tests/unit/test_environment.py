from __future__ import annotations

import os
from typing import Any

import pytest

from imds_identity._platform.environment import Environment, patched_environ


def test_it_is_what_it_was_when_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://before")
    environment = Environment()
    monkeypatch.setenv("MSI_ENDPOINT", "http://after")
    assert environment["MSI_ENDPOINT"] == "http://before"
    assert Environment()["MSI_ENDPOINT"] == "http://after"


def test_a_variable_that_is_not_set_is_empty_and_one_that_nobody_declared_an_error() -> None:
    environment = Environment({"HOME": "/root"})
    assert environment["MSI_ENDPOINT"] == ""
    with pytest.raises(KeyError):
        environment["HOME"]


def test_a_variable_may_be_unset_by_another_thread_meanwhile() -> None:
    class Vanishing(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            raise KeyError(name)

        def get(self, name: str, default: Any = None) -> Any:
            return default

    assert Environment(Vanishing(MSI_ENDPOINT="http://m"))["MSI_ENDPOINT"] == ""


def test_its_repr_names_variables_and_shows_none() -> None:
    environment = Environment({"MSI_ENDPOINT": "http://m", "MSI_SECRET": "s3cret", "HOME": "/x"})
    assert repr(environment) == "Environment(['MSI_ENDPOINT', 'MSI_SECRET'])"


def test_what_is_lent_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSI_ENDPOINT", "http://own")
    before = dict(os.environ)
    with (
        pytest.raises(LookupError),
        patched_environ({"MSI_ENDPOINT": "http://lent", "MSI_SECRET": "s"}),
    ):
        assert (os.environ["MSI_ENDPOINT"], os.environ["MSI_SECRET"]) == ("http://lent", "s")
        raise LookupError
    assert dict(os.environ) == before

"""Why a source was chosen, and what was missing for each of the others."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._platform.environment import Environment, _known
from imds_identity._sources.explain import Explanation, explain
from imds_identity._sources.registry import HOSTS, detect
from imds_identity._token_cache.process import client_for

if TYPE_CHECKING:
    import pytest

    from imds_identity._sources.explain import Candidate

APP_SERVICE = {"IDENTITY_ENDPOINT": "http://a", "IDENTITY_HEADER": "s3cret-header"}
AGENT = "an installed Arc agent"
AUTHORITY_OR_CLIENT = "AZURE_AUTHORITY_HOST or AZURE_CLIENT_ID"
NO_APP_SERVICE = "none of the variables of App Service, Container Apps and Automation"
OTHER_IMDS = "no AZURE_POD_IDENTITY_AUTHORITY_HOST"


def explained(environment: dict[str, str], forced: str | None = None) -> Explanation:
    return explain(forced, environment=Environment(environment))


def candidate(explanation: Explanation, rule: str) -> Candidate:
    [found] = [c for c in explanation.candidates if c.rule == rule]
    return found


def test_every_rule_lists_met_and_missing_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    explanation = explained(APP_SERVICE)
    assert explanation.chosen == "app-service"
    assert [tuple(c) for c in explanation.candidates] == [
        (
            "service-fabric",
            ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
            ("IDENTITY_SERVER_THUMBPRINT",),
        ),
        (
            "container-instances",
            ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", NO_APP_SERVICE),
            ("Windows",),
        ),
        ("app-service", ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"), ()),
        ("arc", ("IDENTITY_ENDPOINT",), ("IMDS_ENDPOINT",)),
        ("azure-ml", (), ("MSI_ENDPOINT", "MSI_SECRET")),
        ("cloud-shell", (), ("MSI_ENDPOINT",)),
        (
            "workload-identity",
            (),
            ("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", AUTHORITY_OR_CLIENT),
        ),
        ("arc-installed", (OTHER_IMDS,), (AGENT,)),
        ("imds", (), ()),
    ]


def test_explanation_is_one_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    said = str(explained(APP_SERVICE))
    assert said.startswith(
        "app-service was selected because it is the first that matches: "
        "service-fabric lacks IDENTITY_SERVER_THUMBPRINT; container-instances lacks Windows; "
        "app-service has IDENTITY_ENDPOINT, IDENTITY_HEADER; arc lacks IMDS_ENDPOINT; "
    )
    assert said.endswith("; imds has no conditions")
    assert said.isprintable()


def test_forced_source_is_explained() -> None:
    explanation = explained(APP_SERVICE, "imds")
    assert (explanation.chosen, explanation.forced) == ("imds", True)
    assert "because the caller requested it" in str(explanation)
    assert explained({}, "arc").chosen == "arc-installed"
    assert explained({"IDENTITY_ENDPOINT": "x", "IMDS_ENDPOINT": "y"}, "arc").chosen == "arc"


def test_installed_agent_is_detected_unless_imds_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: "himds" in str(path))
    explanation = explained({})
    assert explanation.chosen == "arc-installed"
    assert candidate(explanation, "arc-installed").present == (OTHER_IMDS, AGENT)
    explanation = explained({"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://x"})
    assert explanation.chosen == "imds"
    assert candidate(explanation, "arc-installed").missing == (OTHER_IMDS,)


def test_explanation_is_logged_at_debug_level(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in APP_SERVICE.items():
        monkeypatch.setenv(name, value)
    client_for()
    assert caplog.text == ""
    caplog.set_level("DEBUG", "imds_identity")
    client_for()
    assert (
        "tokens come from App Service at http://a; app-service was selected because" in caplog.text
    )
    assert "s3cret" not in caplog.text


SOURCES = {spec.rule: spec.name for spec in HOSTS}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(sorted(_known)), st.just("http://s3cret.example/value")),
    st.booleans(),
)
def test_explanation_matches_detection_and_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], agent: bool
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: agent)
    environment = Environment(variables)
    explanation = explain(environment=environment)
    assert SOURCES[explanation.chosen] == detect(environment=environment).name
    fitting = [c.rule for c in explanation.candidates if not c.missing]
    assert explanation.chosen == fitting[0]
    assert "s3cret" not in f"{explanation} {explanation!r}"

"""Host specifications: one file and one line in the registry add a host everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import doctor_facts
from imds_identity._core.identity import Identity
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.runner import ExchangeRunner
from imds_identity._platform import environment as environment_module
from imds_identity._platform.environment import Environment
from imds_identity._sources import registry
from imds_identity._sources.app_hosts.spec import AppHostSpec
from imds_identity._sources.arc.source import ARC_INSTALLED
from imds_identity._sources.explain import explain
from imds_identity._sources.host import HostSpec, TokenSource, are_set
from imds_identity.doctor._facts.facts import ServiceProbe
from imds_identity.doctor.source import check_leftover_variables
from support import new_token

if TYPE_CHECKING:
    from imds_identity._core.token import Token
    from imds_identity.doctor._facts.facts import Facts
    from support import FakeClock

VARIABLE = "MADE_UP_ENDPOINT"
VARIABLES = {VARIABLE: "http://127.0.0.1:9/made-up"}
APP_SERVICE = {
    "IDENTITY_ENDPOINT": "http://a", "IDENTITY_HEADER": "h", "WEBSITE_SITE_NAME": "w",
}  # fmt: skip
PAGE = Path(__file__).parents[2] / "docs/hosts.md"


@pytest.fixture(autouse=True)
def known_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the variables of made-up hosts after each test."""
    monkeypatch.setattr(environment_module, "_known", dict(environment_module._known))


class MadeUpSource(TokenSource):
    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        return new_token(runner.clock, token_request.resource)


def test_host_has_few_abilities_by_default() -> None:
    spec = HostSpec("made-up", "a made-up host", variables=(VARIABLE,))
    abilities = spec.is_per_machine, spec.knows_cae, spec.requires_https, spec.selectors
    assert not any(abilities)
    assert (spec.rule, spec.misleading, spec.final_statuses) == ("made-up", (VARIABLE,), (404, 410))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> HostSpec:
    """A host that is added to the registry in the documented way."""

    def build(spec: HostSpec, environment: Environment) -> TokenSource:
        return MadeUpSource(spec, environment[VARIABLE], VARIABLE)

    spec = HostSpec(
        "made-up",
        "a made-up host",
        build,
        conditions=are_set(VARIABLE),
        variables=(VARIABLE,),
        selectors={"client_id": "id"},
    )
    monkeypatch.setattr(registry, "HOSTS", (spec, *registry.HOSTS))
    return spec


def facts(values: dict[str, str], connect_error: str = "") -> Facts:
    return doctor_facts.facts(values, ServiceProbe(connect_error=connect_error))


def test_added_host_is_detected_and_returns_tokens(made_up: HostSpec, clock: FakeClock) -> None:
    source = registry.detect(environment=Environment(VARIABLES))
    assert str(source) == "a made-up host at http://127.0.0.1:9/<hidden>"
    assert (source.name, source.variable) == ("made-up", VARIABLE)
    assert [source.is_probe, source.is_per_machine, source.knows_cae] == [False] * 3
    source.preload()
    token_request = TokenRequest("r", Identity("client_id", "c"))
    runner = ExchangeRunner(lambda _: pytest.fail("a request was sent"), clock)
    assert source.fetch(token_request, runner).value == "r"
    assert made_up.identity_query(token_request.identity) == {"id": "c"}
    assert registry.detect(environment=Environment({})).name != "made-up"


def test_added_host_is_explained(made_up: HostSpec) -> None:
    explanation = explain(environment=Environment(VARIABLES))
    assert explanation.chosen == "made-up"
    assert str(explanation).startswith(
        "made-up was selected because it is the first that matches: made-up has MADE_UP_ENDPOINT; "
    )
    assert f"made-up lacks {VARIABLE}" in str(explain(environment=Environment(APP_SERVICE)))


def test_doctor_knows_the_added_host(made_up: HostSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = check_leftover_variables(facts(VARIABLES))
    assert verdict.status == "ok"
    verdict = check_leftover_variables(facts(VARIABLES, "refused"))
    assert (verdict.status, verdict.remedy) == ("failure", f"unset {VARIABLE}")
    assert "a made-up host" in verdict.seen
    # Another host precedes it: its variable is left over.
    monkeypatch.setattr(registry, "HOSTS", (*registry.HOSTS[1:], made_up))
    verdict = check_leftover_variables(facts({**APP_SERVICE, **VARIABLES}))
    assert (verdict.status, verdict.remedy) == ("warning", f"unset {VARIABLE}")


def test_exec_hides_the_added_host_from_programs(made_up: HostSpec) -> None:
    assert VARIABLE in registry.misleading_variables()


def test_exec_hides_all_endpoints_but_not_settings_of_other_credentials() -> None:
    assert registry.misleading_variables() == [
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "MSI_ENDPOINT",
        "MSI_SECRET",
    ]


@pytest.mark.parametrize(
    ("rule", "values", "leftover"),
    [
        ("imds", {"IDENTITY_ENDPOINT": "x"}, ["IDENTITY_ENDPOINT"]),
        ("imds", {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "x"}, []),
        ("arc", {"IDENTITY_ENDPOINT": "x", "IMDS_ENDPOINT": "x"}, []),
        ("arc-installed", {"IMDS_ENDPOINT": "x"}, ["IMDS_ENDPOINT"]),
        ("app-service", {**APP_SERVICE, "MSI_ENDPOINT": "x", "MSI_SECRET": "x"}, []),
        ("cloud-shell", {"MSI_ENDPOINT": "x"}, []),
        ("azure-ml", {"MSI_SECRET": "x", "IMDS_ENDPOINT": "x"}, ["IMDS_ENDPOINT"]),
        ("imds", {"AZURE_FEDERATED_TOKEN_FILE": "x"}, ["AZURE_FEDERATED_TOKEN_FILE"]),
        ("workload-identity", {"AZURE_FEDERATED_TOKEN_FILE": "x"}, []),
    ],
)
def test_variables_of_other_hosts_are_left_over(
    rule: str, values: dict[str, str], leftover: list[str]
) -> None:
    assert registry.leftover_variables(rule, Environment(values)) == leftover


def test_documentation_lists_the_hosts_as_they_are_detected() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ][2:]
    assert [row[1] for row in rows] == [f"`{spec.rule}`" for spec in registry.HOSTS]
    for spec, (_, _, detected_by, request, selectors) in zip(registry.HOSTS, rows, strict=True):
        required = [c.text for c in spec.conditions if re.fullmatch("[A-Z_]+", c.text)]
        assert [name for name in required if f"`{name}`" not in detected_by] == []
        assert re.findall("`([a-z][A-Za-z_]*)`", selectors) == list(spec.selectors.values())
        if isinstance(spec, AppHostSpec):
            assert spec.api_version in request
            assert not spec.secret_header or f"`{spec.secret_header}`" in request


@pytest.mark.parametrize("spec", registry.HOSTS, ids=lambda spec: spec.rule)
def test_specification_is_complete(spec: HostSpec) -> None:
    assert spec.name in spec.rule
    assert spec.label
    assert set(spec.selectors) <= {"client_id", "object_id", "resource_id"}
    assert spec.is_per_machine == (spec.name in ("imds", "arc"))
    assert (spec.is_probe is not None) == (spec.name == "imds")
    assert spec.knows_cae == (spec.name in ("service-fabric", "workload-identity"))
    assert (404 in spec.final_statuses) == (not spec.is_per_machine)
    assert ARC_INSTALLED.variables == ()

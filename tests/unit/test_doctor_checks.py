"""The checks' verdicts on given facts, without any machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor_facts import (
    ARC,
    CLAIMS,
    ETH0,
    IMDS,
    ISSUED,
    METADATA,
    NOW,
    ROUTED,
    TIMED_OUT,
    TOKEN,
    WORKLOAD,
    cause,
    facts,
    finding,
    refused,
)
from doctor_rewording import WORDINGS, reword
from imds_identity._core.failure import (
    Failure,
    Malformed,
    Reason,
    SecretUnreadable,
    Unavailable,
)
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._http.messages import Response
from imds_identity._platform.environment import Environment, _known
from imds_identity._sources.registry import detect
from imds_identity.doctor._catalog.checks import CATALOG
from imds_identity.doctor._catalog.codes import CODES
from imds_identity.doctor._catalog.lookup import category_of, explain_check, page_of
from imds_identity.doctor._facts.facts import (
    Agent,
    CachedToken,
    CacheState,
    Route,
    ServiceProbe,
    WorkloadToken,
)
from imds_identity.doctor._facts.network import bypasses_proxy
from imds_identity.doctor.diagnosis import CHECKS, run_checks


@pytest.fixture(autouse=True, params=WORDINGS)
def _wording(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    reword(monkeypatch, request.param)


def test_unknown_facts_are_not_a_fault() -> None:
    diagnosis = run_checks(facts(probe=ServiceProbe()))
    assert {found.status for found in diagnosis.findings} <= {"ok", "unknown", "skipped"}
    assert diagnosis.headline == "no fault was found, and no token was requested"


@pytest.mark.parametrize("variables", [{}, ARC, {"MSI_ENDPOINT": "http://localhost:1/x"}])
def test_machine_with_a_token_and_no_anomaly_is_healthy(variables: dict[str, str]) -> None:
    diagnosis = run_checks(facts(variables))
    assert diagnosis.status == "ok"
    assert finding(diagnosis, "II061").status == "ok"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    variables=st.dictionaries(
        st.sampled_from(sorted(_known)), st.just("http://s3cret-value.example/x")
    ),
    text=st.text(max_size=80),
    status=st.sampled_from([None, 400, 403, 404, 410, 429, 500]),
    reason=st.sampled_from(Reason),
)
def test_no_facts_make_a_check_fail_or_reveal_the_value_of_a_variable(
    variables: dict[str, str], text: str, status: int | None, reason: Reason
) -> None:
    probe = refused(reason, status, text=text)
    diagnosis = run_checks(
        facts(variables, probe, source=detect("imds", environment=Environment({})))
    )
    assert not [found for found in diagnosis.findings if "this check failed" in found.seen]
    assert diagnosis.status == "failure"
    assert "s3cret-value" not in str(diagnosis.document())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.text(max_size=60))
def test_claims_cannot_control_the_terminal(oid: str, audience: str) -> None:
    endpoint = detect(environment=Environment({})).endpoint
    old = CachedToken("r", endpoint, str(SYSTEM_ASSIGNED), "the-old-one", 60.0)
    probe = ISSUED._replace(claims={**CLAIMS, "oid": oid, "aud": [audience]})
    diagnosis = run_checks(facts(probe=probe, cache=CacheState(path="/x", tokens=(old,))))
    assert all(part.isprintable() for found in diagnosis.findings for part in found)
    assert diagnosis.headline.isprintable()


def test_exception_in_a_check_is_unknown_and_does_not_hide_other_findings() -> None:
    diagnosis = run_checks(facts(system=None))
    assert finding(diagnosis, "II091").status == "unknown"
    assert "AttributeError" in finding(diagnosis, "II091").seen
    assert finding(diagnosis, "II061").status == "ok"


def test_cause_comes_before_its_consequences() -> None:
    assert cause(facts(probe=TIMED_OUT, network=ROUTED)) == "II023"
    assert cause(facts(probe=TIMED_OUT, network=ROUTED._replace(problem="no route"))) == "II021"
    vpn = ROUTED._replace(routes=(ETH0, Route("tun0", "169.254.0.0/16")))
    assert cause(facts(probe=TIMED_OUT, network=vpn)) == "II022"
    ipv6_only = ROUTED._replace(problem="no route", has_ipv4=False, has_ipv6=True)
    assert cause(facts(probe=TIMED_OUT, network=ipv6_only)) == "II020"


def test_identity_that_arc_does_not_know_is_not_taken_for_an_update_of_the_service() -> None:
    probe = refused(Reason.IDENTITY_NOT_FOUND, 404)._replace(default_identity_works=True)
    diagnosis = run_checks(facts(ARC, probe, identity=Identity("client_id", "abc")))
    assert finding(diagnosis, "II042").status == "ok"
    assert "no identity with client_id 'abc'" in finding(diagnosis, "II050").meaning


def test_denial_by_access_rules_is_not_taken_for_a_failing_service() -> None:
    for status in (403, 421, 503):
        diagnosis = run_checks(facts(probe=refused(Reason.METADATA_SECURITY, status)))
        assert diagnosis.cause is not None
        assert diagnosis.cause.id == "II025"
        assert "Metadata Security Protocol" in diagnosis.headline


def test_requests_from_a_secondary_address_are_recognized_by_the_vms_metadata() -> None:
    addresses = [{"privateIpAddress": "10.0.0.4"}, {"privateIpAddress": "10.0.0.5"}]
    document = {"network": {"interface": [{"ipv4": {"ipAddress": addresses}}]}}
    secondary = ROUTED._replace(source_address="10.0.0.5")
    with_token = ISSUED._replace(document=document)
    assert run_checks(facts(probe=with_token, network=secondary)).status == "ok"
    without_token = with_token._replace(claims=None)
    assert run_checks(facts(probe=without_token, network=ROUTED)).status == "ok"
    wrong = facts(probe=without_token, network=secondary)
    diagnosis = run_checks(wrong)
    assert (diagnosis.status, cause(wrong)) == ("warning", "II022")
    assert "primary address 10.0.0.4" in diagnosis.headline


@pytest.mark.parametrize(
    ("routes", "is_wrong"),
    [
        ((ETH0, Route("eth1", "169.254.0.0/16")), True),
        ((ETH0, Route("eth1", "169.254.169.254/32", "10.1.0.1")), False),
        ((Route("tun0", "0.0.0.0/0"), Route("eth0", "169.254.169.0/24")), False),
        ((Route("tun0", "0.0.0.0/0"), ETH0, Route("eth0", "169.254.169.0/24")), False),
        ((ETH0, Route("eth0", "169.254.0.0/16", metric=1002)), False),
        ((Route("wg0", "0.0.0.0/0"),), True),
        ((), False),
    ],
)
def test_host_route_for_the_service_is_not_a_wrong_route(
    routes: tuple[Route, ...], is_wrong: bool
) -> None:
    broken = facts(probe=TIMED_OUT, network=ROUTED._replace(routes=routes))
    assert cause(broken) == ("II022" if is_wrong else "II023")


def test_command_that_adds_a_route_names_this_machines_interface() -> None:
    linux = ROUTED._replace(routes=(ETH0, Route("eth1", "169.254.0.0/16")))
    windows = (
        Route("10.0.1.10", "0.0.0.0/0", "10.0.1.1"),
        Route("169.254.1.156", "169.254.0.0/16"),
    )
    for network, command in (
        (linux, f"sudo ip route replace {IMDS}/32 via 10.0.0.1 dev eth0"),
        (ROUTED._replace(routes=windows), f"route add {IMDS}/32 10.0.1.10 metric 1 -p"),
    ):
        diagnosis = run_checks(facts(probe=TIMED_OUT, network=network))
        assert finding(diagnosis, "II022").remedy == command


def test_commands_for_an_identity_name_this_machine() -> None:
    compute: object
    subscription = "8d10da13-8125-4ba9-a717-bf7490507b3d"
    machine = {"subscriptionId": subscription, "resourceGroupName": "group(1)", "name": "vm"}
    prefix = f"identity assign --subscription {subscription} --resource-group 'group(1)'"
    for compute, command in (
        (machine, f"az vm {prefix} --name vm"),
        ({**machine, "vmScaleSetName": "set"}, f"az vmss {prefix} --name set"),
        (["x"], "az vm identity assign --resource-group GROUP --name VM"),
    ):
        probe = refused(Reason.IDENTITY_NOT_FOUND)._replace(document={"compute": compute})
        assert finding(run_checks(facts(probe=probe)), "II050").remedy == command


def test_unreachable_authority_on_the_internet() -> None:
    failed = ServiceProbe(connect_error="no connection", failure=Unavailable("no response"))
    workload = WorkloadToken("/token", expiry=NOW + 60)
    diagnosis = run_checks(facts(WORKLOAD, failed, workload=workload))
    assert diagnosis.headline == "login.microsoftonline.com cannot be reached"


@pytest.mark.parametrize(
    ("kind", "reason", "number"),
    [
        (SecretUnreadable, Reason.ARC_KEY_FILE_DENIED, "II032"),
        (SecretUnreadable, Reason.ARC_KEY_FILE_MISSING, "II033"),
        (SecretUnreadable, Reason.ARC_KEY_FILE_INVALID, "II033"),
        (SecretUnreadable, Reason.ARC_KEY_FILE_LINK, "II033"),
        (SecretUnreadable, Reason.ARC_KEY_FILE_OUTSIDE, "II033"),
        (SecretUnreadable, Reason.ARC_KEY_FILE_UNREADABLE, "II033"),
        (SecretUnreadable, Reason.ARC_CHALLENGE_MALFORMED, "II033"),
        (Malformed, Reason.IDENTITY_MISMATCH, "II035"),
    ],
)
def test_reason_of_an_arc_failure_selects_the_check(
    kind: type[Failure], reason: Reason, number: str
) -> None:
    probe = ISSUED._replace(claims=None, failure=kind("text", reason=reason))
    agent = Agent(installed=True, in_group=False, user="app")
    assert cause(facts(ARC, probe, agent=agent, identity=Identity("client_id", "x"))) == number


@pytest.mark.parametrize(
    ("reason", "code", "number"),
    [
        (Reason.IDENTITY_NOT_FOUND, "", "II050"),
        (Reason.MULTIPLE_IDENTITIES, "", "II050"),
        (Reason.IDENTITY_DELETED, "AADSTS700016", "II051"),
        (Reason.UNKNOWN_RESOURCE, "AADSTS500011", "II060"),
        (Reason.ENTRA_REFUSED, "AADSTS53003", "II060"),
        (Reason.WRONG_SERVICE, "", "II025"),
        (Reason.BAD_REQUEST, "", "II061"),
    ],
)
def test_reason_of_a_refusal_selects_the_check(reason: Reason, code: str, number: str) -> None:
    assert cause(facts(probe=refused(reason, code=code))) == number


def test_user_who_joined_the_group_after_the_process_started() -> None:
    denied = SecretUnreadable("text", reason=Reason.ARC_KEY_FILE_DENIED)
    agent = Agent(installed=True, in_group=False, listed=True, user="app")
    diagnosis = run_checks(facts(ARC, ISSUED._replace(claims=None, failure=denied), agent=agent))
    assert "'app' was added to the group himds after the start of this process" in (
        diagnosis.headline
    )


def test_user_who_cannot_enter_the_directory_of_key_files() -> None:
    agent = Agent(installed=True, directory_problem="Accès refusé", directory_denied=True)
    assert cause(facts(ARC, ISSUED._replace(claims=None), agent=agent)) == "II032"


def test_expiry_of_the_arc_agents_certificate_is_compared_with_the_clock() -> None:
    for expiry, status in ((NOW - 86400, "failure"), (NOW + 86400, "ok"), (None, "unknown")):
        diagnosis = run_checks(facts(ARC, agent=Agent(certificate_expiry=expiry)))
        assert finding(diagnosis, "II034").status == status


def test_wrong_clock_comes_before_the_error_code_that_it_causes() -> None:
    probe = refused(Reason.ENTRA_REFUSED, code="AADSTS700024")
    slow = probe._replace(requests=(TOKEN._replace(status=400, clock_offset=-600.0),))
    assert cause(facts(probe=slow)) == "II070"
    correct = probe._replace(requests=(TOKEN._replace(status=400, clock_offset=1.0),))
    assert cause(facts(probe=correct)) == "II060"


@pytest.mark.parametrize(
    ("offset", "status"),
    [(0.0, "ok"), (-59.0, "ok"), (90.0, "warning"), (-299.0, "warning"), (600.0, "failure")],
)
def test_clock_offset_is_compared_with_what_services_accept(offset: float, status: str) -> None:
    probe = ISSUED._replace(requests=(TOKEN._replace(clock_offset=offset),))
    assert finding(run_checks(facts(probe=probe)), "II070").status == status


def test_token_that_is_not_valid_at_the_services_time() -> None:
    expired = ISSUED._replace(claims={**CLAIMS, "exp": NOW - 5})
    assert cause(facts(probe=expired)) == "II071"
    not_yet_valid = ISSUED._replace(claims={**CLAIMS, "nbf": NOW + 301})
    assert cause(facts(probe=not_yet_valid)) == "II071"


def test_shared_backoff_is_the_cause_if_no_token_was_requested() -> None:
    no_token = ISSUED._replace(claims=None, requests=(METADATA,))
    diagnosis = run_checks(facts(probe=no_token, cache=CacheState(path="/x", backoff_seconds=30)))
    assert diagnosis.cause
    assert diagnosis.cause.id == "II040"
    assert "for 30 s" in diagnosis.headline


def test_only_tokens_of_the_same_endpoint_and_identity_show_a_recreated_identity() -> None:
    endpoint = detect(environment=Environment({})).endpoint
    elsewhere = CachedToken("r", "http://elsewhere/token", str(SYSTEM_ASSIGNED), "you", 60.0)
    user_assigned = CachedToken("r", endpoint, "client_id 'x'", "you", 60.0)
    cache = CacheState(path="/x", tokens=(elsewhere, user_assigned))
    assert run_checks(facts(cache=cache)).status == "ok"
    same = user_assigned._replace(selector=str(SYSTEM_ASSIGNED))
    assert cause(facts(cache=cache._replace(tokens=(same,)))) == "II051"


def test_workload_token_without_an_expiry_is_unknown() -> None:
    without = facts(WORKLOAD, workload=WorkloadToken("/token"))
    assert finding(run_checks(without), "II010").status == "unknown"
    valid = without._replace(workload=WorkloadToken("/token", expiry=NOW + 60))
    assert finding(run_checks(valid), "II010").status == "ok"


@pytest.mark.parametrize("code", CODES)
def test_known_error_code_is_explained(code: str) -> None:
    assert CODES[code].meaning in explain_check(code.lower())
    if code.startswith("AADSTS"):
        body = f'{{"error": "invalid_client: {code}: text. Trace ID: x"}}'
        assert Response(400, {}, body.encode(), 0.0, 0.0, NOW).service_code == code
        diagnosis = run_checks(facts(probe=refused(Reason.ENTRA_REFUSED, code=code)))
        assert finding(diagnosis, "II060").remedy == CODES[code].remedy


def test_unknown_error_code_is_a_failure_with_a_link() -> None:
    diagnosis = run_checks(facts(probe=refused(Reason.ENTRA_REFUSED, code="AADSTS99999")))
    assert finding(diagnosis, "II060").remedy.endswith("error?code=99999")


@pytest.mark.parametrize(
    ("no_proxy", "bypassed"),
    [
        ("169.254.169.254", True),
        ("localhost, 169.254.169.254:80", True),
        ("169.254.0.0/16", True),
        ("*", True),
        ("", False),
        (".254", True),
        ("69.254.169.254", False),
        ("10.0.0.0/8,nonsense/x", False),
    ],
)
def test_no_proxy_is_interpreted_as_other_clients_do(no_proxy: str, bypassed: bool) -> None:
    assert bypasses_proxy(IMDS, no_proxy) is bypassed


def test_every_check_is_in_the_catalog_and_in_the_documentation() -> None:
    assert set(CHECKS) == set(CATALOG)
    page = Path(__file__).parents[2] / "docs" / "doctor.md"
    row = re.compile(r'^\| <a id="(\w+)"></a>(II\d{3}) \| ([^|]+) \| ([^|]+) \|', re.MULTILINE)
    entries = ((number, CATALOG[number]) for number in sorted(CATALOG))
    assert row.findall(page.read_text()) == [
        (page_of(number).partition("#")[2], number, entry.title, entry.looked_at)
        for number, entry in entries
    ]
    assert all(category_of(number) for number in CATALOG)


def test_every_reason_code_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    assert re.findall(r"^\| `([a-z-]+)` \| \S", page, re.MULTILINE) == [r.value for r in Reason]


@pytest.mark.parametrize("number", CATALOG)
def test_every_check_has_an_explanation(number: str) -> None:
    explanation = explain_check(number)
    for part in CATALOG[number]:
        assert part in explanation
    assert CATALOG[number].link.startswith("https://learn.microsoft.com/")


def test_shortened_ids_show_only_their_first_digits() -> None:
    guid = "5e29463d-71da-4fe0-8e69-999b57db23b0"
    probe = ISSUED._replace(claims={**CLAIMS, "oid": guid})
    text = str(run_checks(facts(probe=probe)).shortened().document())
    assert "oid 5e29…" in text
    assert guid not in text


def test_failure_that_no_check_explains_is_shown_with_its_own_message() -> None:
    failure = Unavailable("the response is unexpected", "Do.")
    probe = ServiceProbe(0.001, requests=(TOKEN._replace(status=418),), failure=failure)
    diagnosis = run_checks(facts(probe=probe))
    assert (diagnosis.headline, diagnosis.cause and diagnosis.cause.remedy) == (
        failure.problem, failure.hint,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "identity", "status"),
    [
        ({"AZURE_CLIENT_ID": "c"}, SYSTEM_ASSIGNED, "warning"),
        ({"AZURE_CLIENT_ID": "c"}, Identity("client_id", "c"), "ok"),
        ({**ARC, "AZURE_CLIENT_ID": "c"}, SYSTEM_ASSIGNED, "warning"),
        (WORKLOAD, SYSTEM_ASSIGNED, "ok"),
        (
            {"MSI_ENDPOINT": "http://localhost:1/x", "AZURE_CLIENT_ID": "c"},
            SYSTEM_ASSIGNED,
            "warning",
        ),
        ({}, SYSTEM_ASSIGNED, "ok"),
    ],
)
def test_unused_azure_client_id_is_a_warning(
    variables: dict[str, str], identity: Identity, status: str
) -> None:
    found = finding(run_checks(facts(variables, identity=identity)), "II004")
    assert found.status == status
    if status == "warning" and variables.keys() == {"AZURE_CLIENT_ID"}:
        assert "AZURE_CLIENT_ID is set but not used" in found.meaning
        assert '--client-id "$AZURE_CLIENT_ID"' in found.remedy
    if "MSI_ENDPOINT" in variables:
        assert found.remedy == "unset AZURE_CLIENT_ID"


def test_azure_client_id_is_suggested_if_the_machine_has_several_identities() -> None:
    probe = refused(Reason.MULTIPLE_IDENTITIES)
    variables = {"AZURE_CLIENT_ID": "c"}
    [cause] = [f for f in run_checks(facts(variables, probe)).findings if f.id == "II050"]
    assert '--client-id "$AZURE_CLIENT_ID"' in cause.remedy
    assert "--client-id ID" in finding(run_checks(facts(probe=probe)), "II050").remedy


def test_identity_of_a_workload_is_named() -> None:
    assert (
        finding(run_checks(facts(WORKLOAD)), "II050").seen
        == "client_id 'c': the service issued a token"
    )


@pytest.mark.parametrize("status", [404, 410, 500])
def test_final_error_is_not_a_service_that_is_updated(status: int) -> None:
    probe = refused(Reason.IDENTITY_NOT_FOUND, status)
    assert finding(run_checks(facts(probe=probe)), "II042").status == "ok"
    probe = refused(Reason.SERVICE_FAILING, status)
    assert finding(run_checks(facts(probe=probe)), "II042").status == "failure"

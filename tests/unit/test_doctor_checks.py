"""What checks say of stated facts: no machine needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Malformed, Refused, SecretUnreadable, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._platform.environment import VARIABLES, Environment
from imds_identity._sources.explain import explain
from imds_identity._sources.firmware import Firmware
from imds_identity._sources.registry import detect
from imds_identity.doctor._facts.facts import (
    Agent,
    Contact,
    Exchanged,
    Facts,
    Network,
    Route,
    Shared,
    SharedToken,
    System,
    Workload,
)
from imds_identity.doctor.catalogue import CATALOGUE, explained
from imds_identity.doctor.codes import CODES, code_in
from imds_identity.doctor.diagnosis import CHECKS, Diagnosis, diagnosed
from imds_identity.doctor.network import is_spared

if TYPE_CHECKING:
    from imds_identity.doctor.finding import Finding

IMDS = "169.254.169.254"
NOW = 1_750_000_000.0
TOKEN = Exchanged("/metadata/identity/oauth2/token", 200, ahead=0.5)
METADATA = Exchanged("/metadata/instance", 200, {"content-type": "application/json"})
CLAIMS = {"aud": "https://vault.azure.net", "oid": "me", "nbf": NOW - 60, "exp": NOW + 86000}
GIVEN = Contact(0.001, metadata=METADATA, requests=(METADATA, TOKEN), claims=CLAIMS)
ARC = {"IDENTITY_ENDPOINT": "http://localhost:40342/token", "IMDS_ENDPOINT": "http://localhost"}
ETH0 = Route("eth0", "0.0.0.0/0", "10.0.0.1", 100)
ROUTED = Network(IMDS, "10.0.0.4", routes=(ETH0,), has_ipv4=True, has_ipv6=False)


def facts(variables: dict[str, str] | None = None, contact: Contact = GIVEN, **more: Any) -> Facts:
    environment = Environment(variables or {})
    known = {
        "resource": "https://vault.azure.net",
        "identity": SYSTEM_ASSIGNED,
        "source": detect(environment=environment),
        "explanation": explain(environment=environment),
        "environment": environment,
        "firmware": Firmware(),
        "system": System(NOW),
        "contact": contact,
    }
    return Facts(**{**known, **more})


def refused(words: str, status: int = 400) -> Contact:
    answer = TOKEN._replace(status=status)
    return Contact(
        0.001, metadata=METADATA, requests=(METADATA, answer),
        failure=Refused(words, status=status),
    )  # fmt: skip


def finding(diagnosis: Diagnosis, number: str) -> Finding:
    [found] = [finding for finding in diagnosis.findings if finding.id == number]
    return found


def cause(stated: Facts) -> str:
    diagnosis = diagnosed(stated)
    assert diagnosis.cause is not None
    return diagnosis.cause.id


def test_a_machine_of_which_nothing_is_known_has_no_fault() -> None:
    diagnosis = diagnosed(facts(contact=Contact()))
    assert {found.status for found in diagnosis.findings} <= {"ok", "unknown", "skipped"}
    assert diagnosis.headline == "no fault was found, and no token was asked for"


@given(st.sampled_from([{}, ARC, {"MSI_ENDPOINT": "http://localhost:1/x"}]))
def test_who_gets_a_token_and_has_nothing_odd_is_healthy(variables: dict[str, str]) -> None:
    diagnosis = diagnosed(facts(variables))
    assert diagnosis.status == "ok"
    assert finding(diagnosis, "II061").status == "ok"


@given(
    variables=st.dictionaries(st.sampled_from(VARIABLES), st.just("http://s3cret-value.example/x")),
    words=st.text(max_size=80),
    status=st.sampled_from([None, 400, 403, 404, 410, 429, 500]),
)
def test_no_facts_trip_a_check_and_no_value_of_a_variable_is_told(
    variables: dict[str, str], words: str, status: int | None
) -> None:
    contact = refused(words, status or 0)
    diagnosis = diagnosed(
        facts(variables, contact, source=detect("imds", environment=Environment({})))
    )
    assert not [found for found in diagnosis.findings if "check itself failed" in found.seen]
    assert diagnosis.status == "failure"
    assert "s3cret-value" not in str(diagnosis.document())


@given(st.text(max_size=60), st.text(max_size=60))
def test_what_a_token_says_is_no_command_to_a_terminal(oid: str, audience: str) -> None:
    here = detect(environment=Environment({})).endpoint
    old = SharedToken("r", here, str(SYSTEM_ASSIGNED), "the-old-one", 60.0)
    contact = GIVEN._replace(claims={**CLAIMS, "oid": oid, "aud": [audience]})
    diagnosis = diagnosed(facts(contact=contact, shared=Shared(path="/x", tokens=(old,))))
    assert all(part.isprintable() for found in diagnosis.findings for part in found)
    assert diagnosis.headline.isprintable()


def test_a_check_that_trips_is_unknown_and_does_not_keep_the_others() -> None:
    diagnosis = diagnosed(facts(system=None))
    assert finding(diagnosis, "II091").status == "unknown"
    assert "AttributeError" in finding(diagnosis, "II091").seen
    assert finding(diagnosis, "II061").status == "ok"


def test_a_cause_stands_before_its_consequences() -> None:
    lost = Contact(connect_problem="no connection within 1.5 s")
    assert cause(facts(contact=lost, network=ROUTED)) == "II023"
    assert cause(facts(contact=lost, network=ROUTED._replace(problem="no way"))) == "II021"
    tunnel = ROUTED._replace(routes=(ETH0, Route("tun0", "169.254.0.0/16")))
    assert cause(facts(contact=lost, network=tunnel)) == "II022"
    bare = ROUTED._replace(problem="no way", has_ipv4=False, has_ipv6=True)
    assert cause(facts(contact=lost, network=bare)) == "II020"


def test_a_machine_elsewhere_is_told_from_one_whose_network_is_broken() -> None:
    lost = Contact(connect_problem="No route to host")
    diagnosis = diagnosed(facts(contact=lost, firmware=Firmware("", "LENOVO")))
    assert diagnosis.headline.startswith("this is no Azure VM, says its firmware")


def test_requests_of_a_second_address_are_seen_in_the_machines_own_metadata() -> None:
    addresses = [{"privateIpAddress": "10.0.0.4"}, {"privateIpAddress": "10.0.0.5"}]
    document = {"network": {"interface": [{"ipv4": {"ipAddress": addresses}}]}}
    second = ROUTED._replace(source_address="10.0.0.5")
    answered = GIVEN._replace(document=document)
    assert diagnosed(facts(contact=answered, network=second)).status == "ok"
    silent = answered._replace(claims=None)
    assert diagnosed(facts(contact=silent, network=ROUTED)).status == "ok"
    diagnosis = diagnosed(facts(contact=silent, network=second))
    assert (diagnosis.status, cause(facts(contact=silent, network=second))) == ("warning", "II022")
    assert "primary address 10.0.0.4" in diagnosis.headline


@pytest.mark.parametrize(
    ("routes", "caught"),
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
def test_a_route_that_is_meant_for_the_address_is_no_detour(
    routes: tuple[Route, ...], caught: bool
) -> None:
    lost = Contact(connect_problem="no connection within 1.5 s")
    stated = facts(contact=lost, network=ROUTED._replace(routes=routes))
    assert cause(stated) == ("II022" if caught else "II023")


def test_the_route_to_add_is_this_machines_own() -> None:
    lost = Contact(connect_problem="no connection within 1.5 s")
    linux = ROUTED._replace(routes=(ETH0, Route("eth1", "169.254.0.0/16")))
    windows = (
        Route("10.0.1.10", "0.0.0.0/0", "10.0.1.1"),
        Route("169.254.1.156", "169.254.0.0/16"),
    )
    for network, command in (
        (linux, f"sudo ip route add {IMDS}/32 via 10.0.0.1 dev eth0"),
        (ROUTED._replace(routes=windows), f"route add {IMDS}/32 10.0.1.10 metric 1 -p"),
    ):
        assert finding(diagnosed(facts(contact=lost, network=network)), "II022").remedy == command


def test_the_commands_for_an_identity_name_this_very_machine() -> None:
    machine = {"subscriptionId": "s-1", "resourceGroupName": "a group", "name": "vm"}
    contact = refused("the service answered 400, invalid_request: Identity not found")
    stated = facts(contact=contact._replace(document={"compute": machine}))
    assert finding(diagnosed(stated), "II050").remedy == (
        "az vm identity assign --subscription s-1 --resource-group 'a group' --name vm"
    )
    of_a_set = {**machine, "vmScaleSetName": "set"}
    stated = facts(contact=contact._replace(document={"compute": of_a_set}))
    assert finding(diagnosed(stated), "II050").remedy == (
        "az vmss identity assign --subscription s-1 --resource-group 'a group' --name set"
    )
    strange = facts(contact=contact._replace(document={"compute": ["x"]}))
    assert finding(diagnosed(strange), "II050").remedy.endswith("--resource-group GROUP --name VM")


def test_an_authority_on_the_internet_that_cannot_be_reached() -> None:
    variables = {
        "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_FEDERATED_TOKEN_FILE": "/token",
    }  # fmt: skip
    lost = Contact(connect_problem="no connection", failure=Unavailable("nothing answers"))
    diagnosis = diagnosed(facts(variables, lost, workload=Workload("/token", expires=NOW + 60)))
    assert diagnosis.headline == "login.microsoftonline.com cannot be reached"


@pytest.mark.parametrize(
    ("failure", "number"),
    [
        (SecretUnreadable("this user may not read 'x.key'"), "II032"),
        (SecretUnreadable("the challenge names 'x', which is no key file of the agent"), "II033"),
        (Malformed("the service did not confirm the client_id 'x': it named none"), "II035"),
    ],
)
def test_what_an_arc_agent_is_short_of(failure: Any, number: str) -> None:
    contact = GIVEN._replace(claims=None, failure=failure)
    stated = facts(ARC, contact, agent=Agent(installed=True, in_group=False, user="app"))
    assert cause(stated._replace(identity=Identity("client_id", "x"))) == number


def test_a_user_who_was_added_to_the_group_too_late() -> None:
    denied = SecretUnreadable("this user may not read 'x.key'")
    contact = GIVEN._replace(claims=None, failure=denied)
    agent = Agent(installed=True, in_group=False, listed=True, user="app")
    diagnosis = diagnosed(facts(ARC, contact, agent=agent))
    assert "'app' was added to the group himds after this process" in diagnosis.headline


def test_an_arc_agents_certificate_is_judged_by_the_clock() -> None:
    ends = [(NOW - 86400, "failure"), (NOW + 86400, "ok"), (None, "unknown")]
    for moment, status in ends:
        diagnosis = diagnosed(facts(ARC, agent=Agent(certificate_ends=moment)))
        assert finding(diagnosis, "II034").status == status


def test_a_wrong_clock_comes_before_the_code_that_it_causes() -> None:
    contact = refused("AADSTS700024: Client assertion is not within its valid time range.")
    late = contact._replace(requests=(TOKEN._replace(status=400, ahead=-600.0),))
    assert cause(facts(contact=late)) == "II070"
    right = contact._replace(requests=(TOKEN._replace(status=400, ahead=1.0),))
    assert cause(facts(contact=right)) == "II060"


@pytest.mark.parametrize(
    ("ahead", "status"),
    [(0.0, "ok"), (-59.0, "ok"), (90.0, "warning"), (-299.0, "warning"), (600.0, "failure")],
)
def test_a_clock_is_judged_by_what_services_allow(ahead: float, status: str) -> None:
    contact = GIVEN._replace(requests=(TOKEN._replace(ahead=ahead),))
    assert finding(diagnosed(facts(contact=contact)), "II070").status == status


def test_a_token_that_is_not_good_now_is_found_by_the_services_time() -> None:
    gone = GIVEN._replace(claims={**CLAIMS, "exp": NOW - 5})
    assert cause(facts(contact=gone)) == "II071"
    early = GIVEN._replace(claims={**CLAIMS, "nbf": NOW + 301})
    assert cause(facts(contact=early)) == "II071"


def test_a_resting_machine_asks_for_no_token_and_says_so() -> None:
    resting = GIVEN._replace(claims=None, requests=(METADATA,))
    diagnosis = diagnosed(facts(contact=resting, shared=Shared(path="/x", paused_seconds=30)))
    assert diagnosis.cause
    assert diagnosis.cause.id == "II040"
    assert "in 30 s" in diagnosis.headline


def test_tokens_of_another_endpoint_or_identity_are_no_sign_of_a_recreated_one() -> None:
    here = detect(environment=Environment({})).endpoint
    other = SharedToken("r", "http://elsewhere/token", str(SYSTEM_ASSIGNED), "you", 60.0)
    named = SharedToken("r", here, "client_id 'x'", "you", 60.0)
    shared = Shared(path="/x", tokens=(other, named))
    assert diagnosed(facts(shared=shared)).status == "ok"
    same = named._replace(selector=str(SYSTEM_ASSIGNED))
    assert cause(facts(shared=shared._replace(tokens=(same,)))) == "II051"


def test_a_workload_whose_token_tells_no_expiry_is_unknown() -> None:
    variables = {
        "AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_FEDERATED_TOKEN_FILE": "/token",
    }  # fmt: skip
    stated = facts(variables, workload=Workload("/token"))
    assert finding(diagnosed(stated), "II010").status == "unknown"
    expiring = stated._replace(workload=Workload("/token", expires=NOW + 60))
    assert finding(diagnosed(expiring), "II010").status == "ok"


@pytest.mark.parametrize("code", CODES)
def test_codes_that_people_search_for_are_found_in_the_answer(code: str) -> None:
    assert code_in(f"invalid_client: {code}: words. Trace ID: x") == code
    assert CODES[code].meaning in explained(code.lower())


def test_an_unknown_code_is_a_failure_with_where_to_look_it_up() -> None:
    diagnosis = diagnosed(facts(contact=refused("AADSTS99999: new")))
    assert finding(diagnosis, "II060").remedy.endswith("error?code=99999")


@pytest.mark.parametrize(
    ("no_proxy", "spared"),
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
def test_no_proxy_is_read_as_clients_read_it(no_proxy: str, spared: bool) -> None:
    assert is_spared(IMDS, no_proxy) is spared


def test_every_check_is_in_the_catalogue_and_in_the_documentation() -> None:
    assert set(CHECKS) == set(CATALOGUE)
    page = Path(__file__).parents[2] / "docs" / "doctor.md"
    documented = re.findall(r"^\| (II\d{3}) \| ([^|]+) \|", page.read_text(), re.MULTILINE)
    assert documented == [(number, CATALOGUE[number].title) for number in sorted(CATALOGUE)]


@pytest.mark.parametrize("number", CATALOGUE)
def test_every_check_explains_itself(number: str) -> None:
    said = explained(number)
    for part in CATALOGUE[number]:
        assert part in said
    assert CATALOGUE[number].link.startswith("https://learn.microsoft.com/")


def test_shortened_ids_show_their_beginning_only() -> None:
    guid = "5e29463d-71da-4fe0-8e69-999b57db23b0"
    contact = GIVEN._replace(claims={**CLAIMS, "oid": guid})
    said = str(diagnosed(facts(contact=contact)).shortened().document())
    assert "oid 5e29…" in said
    assert guid not in said


def test_a_failure_that_no_check_explains_is_told_in_its_own_words() -> None:
    contact = Contact(
        0.001,
        requests=(TOKEN._replace(status=418),),
        failure=Unavailable("the answer is odd", "Do."),
    )
    diagnosis = diagnosed(facts(contact=contact))
    assert (diagnosis.headline, diagnosis.cause and diagnosis.cause.remedy) == (
        "the answer is odd", "Do.",
    )  # fmt: skip

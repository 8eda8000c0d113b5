"""Remedies are pasted into a shell, and contain values that other users and services choose."""

from __future__ import annotations

import argparse
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imds_identity._core.failure import Reason, Refused, SecretUnreadable, Unavailable
from imds_identity._core.identity import SYSTEM_ASSIGNED, Identity
from imds_identity._core.source import Source
from imds_identity._core.token_request import TokenRequest
from imds_identity._http.exchange import ErrorKind
from imds_identity._http.messages import Response
from imds_identity._platform.environment import Environment
from imds_identity._sources.explain import explain
from imds_identity._sources.firmware import Firmware
from imds_identity._sources.refusals import access_denied, not_assigned
from imds_identity._sources.registry import detect
from imds_identity.cli.arguments import add_token_options, doctor_command
from imds_identity.doctor import diagnosis, finding
from imds_identity.doctor._facts.facts import (
    Agent,
    Application,
    CachedToken,
    CacheState,
    Facts,
    Hosting,
    HostKind,
    Network,
    RequestRecord,
    Route,
    ServiceProbe,
    System,
    WorkloadToken,
)
from imds_identity.doctor.diagnosis import run_checks
from imds_identity.doctor.finding import ArgumentKind, argument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(
    BASH is None or sys.platform == "win32", reason="bash is not installed"
)
GUID = "5e29463d-71da-4fe0-8e69-999b57db23b0"
KINDS = {name: kind for name, kind in vars(finding).items() if isinstance(kind, ArgumentKind)}
PROGRAMS = (
    "az", "azcmagent", "chronyc", "curl", "cut", "docker", "getent", "imds-identity", "ip",
    "kubectl", "log", "net", "netstat", "resolvectl", "ss", "sudo", "systemctl", "usermod",
)  # fmt: skip
ATTACKS = (
    "$(touch x)", "`touch x`", "; touch x ;", "x; touch x #", "' ; touch x '", '" ; touch x "',
    "'\"; touch x;\"'", "x\ntouch x\n", "| touch x", "&& touch x", "> x", ">x", "x\\", "'", '"',
    "$'\\x24(touch x)'", "(touch x)", "=(touch x)", "{touch,x}", "!!", "#", "-x", "--help",
    "eyJhbGciOiJIUzI1NiJ9.e30.x", "Bearer", "bearer abcdefgh12345", "user:password@",
    "a://b:c@d", "vm-1", GUID, "eth0", "10.0.0.1", "x" * 1001 + "'; touch x;'",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(max_size=40),
    st.lists(
        st.sampled_from([*ATTACKS, " ", "<", ">", "(", ")", "$IFS", "touch", "x", "\t"]), max_size=4
    ).map("".join),
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with stubs of the programs in remedies, and the real ``touch``."""
    directory = tmp_path_factory.mktemp("sandbox")
    (directory / "bin").mkdir()
    (directory / "empty").mkdir()
    for name in PROGRAMS:
        (directory / "bin" / name).symlink_to(shutil.which("true") or "/bin/true")
    (directory / "bin" / "touch").symlink_to(shutil.which("touch") or "/usr/bin/touch")
    return directory


def bash(sandbox: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert BASH is not None
    return subprocess.run(
        [BASH, "--noprofile", "--norc", *arguments],
        cwd=sandbox / "empty",
        env={"PATH": str(sandbox / "bin")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@functools.cache
def parses(sandbox: Path, command: str) -> bool:
    return bash(sandbox, "-n", "-c", command).returncode == 0


def machines(value: str) -> Iterator[Facts]:
    """Yield broken machines on which ``value`` is in each place that others control."""
    hint = f"Look at {value!r}."
    metadata = RequestRecord("/metadata/instance", 200, {"server": value})
    token = RequestRecord("/metadata/identity/oauth2/token", 400, {"retry-after": value})
    compute = {"subscriptionId": value, "resourceGroupName": value, "name": value}
    document = {"compute": compute, "error": value}
    broken = ServiceProbe(
        0.1, metadata=metadata, requests=(metadata, token), document=document,
        failure=Refused(value, hint, reason=Reason.IDENTITY_NOT_FOUND, status=400),
    )  # fmt: skip
    unreachable = ServiceProbe(connect_error=value)
    bad = Environment(dict.fromkeys(("AZURE_CLIENT_ID", "http_proxy", "no_proxy"), value))
    arc = {"IDENTITY_ENDPOINT": "http://localhost:1/token", "IMDS_ENDPOINT": "http://localhost:1"}
    identity = Identity("client_id", value)

    def facts(environment: Environment | None = None, **more: Any) -> Facts:
        known = environment or Environment({})
        source, explanation = detect(environment=known), explain(environment=known)
        start = Facts(value, identity, source, explanation, known, Firmware())
        return start._replace(system=System(1e9, container=value), probe=broken)._replace(**more)

    def refused(reason: Reason, **more: Any) -> ServiceProbe:
        return broken._replace(failure=Refused(value, hint, reason=reason, **more))

    yield facts(bad)
    yield facts(probe=broken._replace(default_identity_works=True))
    yield facts(probe=broken._replace(document={"compute": {**compute, "vmScaleSetName": value}}))
    yield facts(bad, identity=SYSTEM_ASSIGNED, probe=refused(Reason.MULTIPLE_IDENTITIES))
    yield facts(probe=refused(Reason.IDENTITY_DELETED, service_code=value))
    yield facts(probe=refused(Reason.ENTRA_REFUSED, service_code=f"AADSTS{value}"))
    yield facts(resource=f"{value}/.default")
    yield facts(resource=f"https://{value}/p", probe=refused(Reason.UNKNOWN_RESOURCE))
    routes = (Route(value, "0.0.0.0/0", value), Route("tun0", "169.254.0.0/16"))
    network = Network("169.254.169.254", value, routes=routes)
    yield facts(network=network, probe=unreachable)
    yield facts(network=network._replace(problem=value), probe=unreachable)
    rejected = network._replace(problem=value, rejecting_route=value)
    yield facts(network=rejected, probe=unreachable)
    yield facts(Environment({"AZURE_POD_IDENTITY_AUTHORITY_HOST": value}), endpoint_problem=value)
    denied = SecretUnreadable(value, hint, reason=Reason.ARC_KEY_FILE_DENIED)
    agent = Agent(True, value, value, True, in_group=False, user=value, port_problem=value)
    yield facts(Environment(arc), probe=broken._replace(failure=denied), agent=agent)
    yield facts(cache=CacheState(path=value, problem=value), workload=WorkloadToken(value, value))
    for scheme in ("http", "https"):
        source: Any = Source("imds", f"{scheme}://{value}/x", value)
        source.spec = detect(environment=Environment({})).spec
        for kind in (ErrorKind.REFUSED, ErrorKind.NAME, ErrorKind.OTHER):
            connection = unreachable._replace(connect_kind=kind)
            yield facts(bad, source=source, probe=connection)
    request = TokenRequest("https://vault.azure.net", identity)
    for failure in (
        not_assigned(Response(400, {}, value.encode("utf-8", "replace"), 0, 0, 0), request),
        access_denied(Response(403, {}, b"", 0, 0, 0), value),
        Unavailable(value, hint),
    ):
        yield facts(probe=broken._replace(failure=failure, requests=(token._replace(status=418),)))
    federated = WorkloadToken(value, subject=value, issuer=value, audience=value)
    variables = dict.fromkeys(("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"), value)
    pod = Environment({**variables, "AZURE_AUTHORITY_HOST": "https://x", "AZURE_CLIENT_ID": value})
    for code in ("AADSTS700213", "AADSTS700016", "AADSTS7000112"):
        probe = refused(Reason.ENTRA_REFUSED, service_code=code)
        yield facts(pod, probe=probe, workload=federated, identity=SYSTEM_ASSIGNED)
    anonymous = pod.without("AZURE_CLIENT_ID")
    yield facts(anonymous, workload=federated, identity=SYSTEM_ASSIGNED)
    for host in HostKind:
        yield facts(probe=unreachable, hosting=Hosting(host, value, value))
    claims = {"oid": value, "nbf": 0, "exp": 2e9, "iss": value, "sub": value}
    named = facts(application=Application(value, value, value))
    yield from applications(named._replace(probe=broken._replace(claims=claims, failure=None)))
    source = detect(environment=Environment({}))
    old = CachedToken("r", source.key_endpoint, str(identity), "old", 60)
    yield facts(probe=broken._replace(claims=claims, failure=None), cache=CacheState(tokens=(old,)))


def applications(named: Facts) -> Iterator[Facts]:
    """Yield machines on which an application gets no token."""
    value = named.application.client_id
    for code in ("AADSTS700211", "AADSTS700016", "AADSTS7000112", value):
        failure = Refused(value, f"Look at {value!r}.", service_code=code)
        yield named._replace(probe=named.probe._replace(application_failure=failure))


def remedies(value: str) -> dict[tuple[int, str], str]:
    """Return the remedies of all machines, by machine and check."""
    with pytest.MonkeyPatch.context() as patch:
        # Other texts are sanitized, which takes most of the time. The remedies are not.
        patch.setattr(diagnosis, "sanitize", lambda text, _: text)
        return {
            (number, found.id): found.remedy
            for number, facts in enumerate(machines(value))
            for found in run_checks(facts).findings
            if found.remedy
        }


@functools.cache
def plain_remedies() -> dict[tuple[int, str], str]:
    return remedies("vm-1")


@pytest.mark.parametrize("value", ATTACKS)
def test_remedies_execute_nothing_that_a_value_contains(sandbox: Path, value: str) -> None:
    check_remedies(sandbox, remedies(value))


@settings(max_examples=20)  # forty machines for each
@given(VALUES)
def test_no_value_changes_what_remedies_execute(sandbox: Path, value: str) -> None:
    check_remedies(sandbox, remedies(value))


def check_remedies(sandbox: Path, found: dict[tuple[int, str], str]) -> None:
    plain = plain_remedies()
    changed = {key: remedy for key, remedy in found.items() if remedy != plain.get(key)}
    for key, remedy in changed.items():
        if key in plain:
            assert parses(sandbox, remedy) or not parses(sandbox, plain[key]), remedy
    commands = sorted(set((changed or plain).values()))
    bash(sandbox, "-c", "\n".join(f"(eval {shlex.quote(remedy)})" for remedy in commands))
    assert os.listdir(sandbox / "empty") == [], commands


def test_the_machines_have_the_remedies_with_values() -> None:
    checks = {number for _, number in remedies("vm-1")}
    assert {"II004", "II005", "II012", "II021", "II022", "II023", "II024", "II032", "II050",
            "II051", "II060", "II061", "II080"} <= checks  # fmt: skip


@given(VALUES, st.sampled_from(sorted(KINDS)))
def test_argument_is_one_word(value: str, name: str) -> None:
    kind = KINDS[name]
    word = argument(value, kind)
    assert shlex.split(word) in ([value], [kind.placeholder])
    assert re.fullmatch(r"[A-Z_]+", kind.placeholder)
    assert not shlex.split(word)[0].startswith("-")
    assert "<hidden>" not in word


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RESOURCE_GROUP", "größe (1)", "GROUP"),
        ("RESOURCE_GROUP", "größe(1)", "'größe(1)'"),
        ("MACHINE", "eyJhbGciOiJIUzI1NiJ9", "VM"),
        ("INTERFACE", "eth0.100", "eth0.100"),
        ("INTERFACE", "a$(id)", "PRIMARY_INTERFACE"),
        ("USER", "first.last", "first.last"),
        ("USER", "first last", "USER"),
        ("RESOURCE", "https://vault.azure.net", "https://vault.azure.net"),
        ("RESOURCE", "api://5e29463d", "api://5e29463d"),
        ("HOST_AND_PORT", "[::1]:80", "'[::1]:80'"),
        ("OBJECT_ID", None, "OBJECT_ID"),
    ],
)
def test_values_of_the_kind_are_shown(name: str, value: object, expected: str) -> None:
    assert argument(value, KINDS[name]) == expected


@given(VALUES, VALUES.filter(str.strip))
def test_command_that_runs_the_doctor_has_the_flags_of_the_user(resource: str, value: str) -> None:
    parser = argparse.ArgumentParser()
    add_token_options(parser)
    arguments = parser.parse_args([f"--client-id={value}"])
    words = ["imds-identity", "doctor", "--resource", resource, "--client-id", value]
    assert shlex.split(doctor_command(arguments, resource)) == words

"""Facts in files: complete, without secrets, and refused if they are damaged."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor_facts import ARC, ISSUED, NOW, ROUTED, TIMED_OUT, WORKLOAD, facts, refused
from imds_identity._core.failure import Reason, SecretUnreadable
from imds_identity._core.identity import Identity
from imds_identity._sources.firmware import Firmware
from imds_identity.cli import main
from imds_identity.cli.doctor import run
from imds_identity.doctor._catalog import lookup
from imds_identity.doctor._facts.facts import (
    Agent,
    CachedToken,
    CacheState,
    Hosting,
    HostKind,
    Network,
    Pod,
    Rejection,
    WorkloadToken,
)
from imds_identity.doctor._facts.saved import load_facts, save_facts
from imds_identity.doctor.diagnosis import run_checks

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cret-value"
APP = {"IDENTITY_ENDPOINT": f"http://127.0.0.1:41741/{SECRET}/token", "IDENTITY_HEADER": SECRET}
DOCUMENT = {
    "compute": {"name": "vm", "userData": SECRET, "tags": f"key:{SECRET}", "vmScaleSetName": ""},
    "network": {"interface": [{"ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4"}]}}]},
}
REJECTED = Network("169.254.169.254", problem="x", rejection=Rejection.BLACKHOLE, has_ipv4=True)
MACHINES = {
    "healthy": facts(probe=ISSUED._replace(document=DOCUMENT), network=ROUTED),
    "lost packets": facts(probe=TIMED_OUT, network=ROUTED, firmware=Firmware("x", "Dell Inc.")),
    "route": facts(probe=TIMED_OUT, network=REJECTED),
    "proxy": facts({"HTTP_PROXY": f"http://user:{SECRET}@proxy:3128", "NO_PROXY": "x"}),
    "secrets": facts({"AZURE_CLIENT_SECRET": SECRET, "AZURE_CLIENT_ID": "c",
                      "AZURE_TENANT_ID": "t"}),
    "app": facts(APP, refused(Reason.IDENTITY_NOT_FOUND),
                 hosting=Hosting(HostKind.APP_SERVICE, "shop", "g")),
    "pod": facts(WORKLOAD, refused(Reason.ENTRA_REFUSED, 400, "AADSTS700213"),
                 workload=WorkloadToken("/t", expiry=NOW + 60), pod=Pod("p", "n", "a")),
    "agent": facts(ARC, ISSUED._replace(claims=None, failure=SecretUnreadable(
        "text", reason=Reason.ARC_KEY_FILE_DENIED)), agent=Agent(True, in_group=False, user="u")),
    "identity": facts(probe=refused(Reason.IDENTITY_NOT_FOUND),
                      identity=Identity("client_id", "x")),
    "cache": facts(cache=CacheState(path="/x", tokens=(CachedToken("r", "e", "s", "o", 1.5),))),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINES)
def test_saved_facts_lead_to_the_same_diagnosis(name: str, tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    save_facts(MACHINES[name], file)
    assert SECRET not in file.read_text()
    if os.name != "nt":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run_checks(load_facts(file)) == run_checks(MACHINES[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a file that"),
        ("[" * 100000, "is not a file that"),
        ("{}", "is not a file that"),
        ("[]", "is not a file that"),
        ('{"kind": "imds-identity doctor facts", "format": 99, "version": "9.9"}',
         "has format 99, and this version reads 1: use imds-identity 9.9, which wrote it"),
        ('{"kind": "imds-identity doctor facts", "format": 1}', "is damaged"),
        ('{"kind": "imds-identity doctor facts", "format": 1, "facts": {}}', "is damaged"),
    ],
)  # fmt: skip
def test_file_of_another_kind_or_version_is_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_facts(tmp_path / "f")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a JSON document with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_damaged_facts_are_refused_or_judged(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "facts.json"
    save_facts(data.draw(st.sampled_from(list(MACHINES.values()))), file)
    document = json.loads(file.read_text())
    container, key = data.draw(st.sampled_from(places(document["facts"])))
    container[key] = data.draw(JSON)
    file.write_text(json.dumps(document))
    try:
        damaged = load_facts(file)
    except ValueError:
        return
    assert run_checks(damaged).findings


def test_facts_are_judged_on_another_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "facts.json"
    save_facts(MACHINES["pod"], file)
    assert main(["doctor", "--facts", str(file), "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["cause"] == "II011"
    file.write_text("{}")
    assert main(["doctor", "--facts", str(file), "-o", "json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert "is not a file that" in document["error"]
    assert main(["doctor", "--facts", str(tmp_path / "missing")]) == 2
    assert f"{tmp_path / 'missing'}: No such file" in capsys.readouterr().err


def test_reader_that_ends_early_is_not_a_failure_of_the_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise BrokenPipeError(errno.EPIPE, "text")

    monkeypatch.setattr(lookup, "list_checks", fail)
    with pytest.raises(BrokenPipeError):  # which `main` handles, as for other commands
        run(argparse.Namespace(list=True, explain=None, json=False, output=None))


def test_counts_are_in_the_plural(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    save_facts(MACHINES["pod"], file)
    main(["doctor", "--facts", str(file)])
    found = re.search(r"checks: (\d+) failure(s?)", capsys.readouterr().out)
    assert found is not None
    assert (found[1] != "1") == bool(found[2])


@pytest.mark.parametrize(
    "arguments",
    [["--json", "--explain", "X"], ["-o", "json", "--check", "X"], ["-o", "json", "--unknown"],
     ["--output=json", "--client-id", "a", "--object-id", "b"], ["-ojson", "--source", "x"],
     ["--json", "--save", "a", "--facts", "b"], ["--fail-on", "x", "-o", "json"]],
)  # fmt: skip
def test_wrong_usage_is_reported_as_json(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["doctor", *arguments])
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert status == 2
    document = json.loads(out)
    assert (document["schema"], document["status"]) == (1, "error")
    assert document["error"] in err

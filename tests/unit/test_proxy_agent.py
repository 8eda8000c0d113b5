"""Azure's guest proxy agent: its detection, its mode, and what is shared under its rules."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imds_identity._platform import proxy_agent
from imds_identity._platform.environment import Environment
from imds_identity._shared_cache import location
from imds_identity._shared_cache.location import shared_cache_for

if TYPE_CHECKING:
    from pathlib import Path

LISTENING = "   0: 0100007F:0C08 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0"


def status_document(state: object) -> dict[str, Any]:
    return {
        "timestamp": "2026-07-22T21:27:45.123Z",
        "proxyAgentStatus": {
            "version": "1.0.33",
            "status": "SUCCESS",
            "keyLatchStatus": {"status": "RUNNING", "states": {"secureChannelState": state}},
        },
        "proxyConnectionSummary": [],
    }


@pytest.fixture
def status_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agent's status file, which does not exist yet."""
    path = tmp_path / "status.json"
    monkeypatch.setattr(proxy_agent, "STATUS", str(path))
    return path


@pytest.mark.parametrize(
    ("state", "is_enforcing"),
    [
        ("WireServer Enforce -  IMDS Enforce - HostGA Enforce", True),
        ("WireServer Audit -  IMDS Enforce - HostGA Audit", True),
        ("WireServer Enforce -  IMDS Audit - HostGA Enforce", False),
        ("WireServer Enforce -  IMDS Disabled - HostGA Enforce", False),
        ("WireServerAndImds", True),
        ("wireserver", False),
        ("audit", False),
        ("disabled", False),
        ("Unknown", False),
        (None, False),
        (["imds enforce"], False),
    ],
)
def test_mode_of_the_agent_is_read_from_its_status(
    status_file: Path, state: object, is_enforcing: bool
) -> None:
    status_file.write_text(json.dumps(status_document(state)))
    assert proxy_agent.is_enforcing() is is_enforcing


def test_missing_status_means_that_nothing_is_enforced(status_file: Path) -> None:
    assert proxy_agent.is_enforcing() is False


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.one_of(st.binary(max_size=60), st.sampled_from([b"[]", b"1", b'{"proxyAgentStatus":{}}']))
)
def test_any_status_file_is_read(status_file: Path, content: bytes) -> None:
    status_file.write_bytes(content)
    assert proxy_agent.is_enforcing() is False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows sockets in files")
@pytest.mark.parametrize(
    ("table", "is_visible"),
    [
        (LISTENING, True),
        (LISTENING.replace(" 0A ", " 01 "), False),  # a connection from this port
        (LISTENING.replace("0100007F", "00000000"), False),
        (LISTENING.replace("0C08", "0C09"), False),
        ("no sockets\n\n", False),
        (None, False),
    ],
)
def test_agent_is_visible_by_its_listener(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None, is_visible: bool
) -> None:
    path = tmp_path / "tcp"
    if table is not None:
        path.write_text(f"  sl  local_address rem_address   st\n{table}\n")
    monkeypatch.setattr(proxy_agent, "_LISTENERS", str(path))
    monkeypatch.setattr(proxy_agent, "_PROGRAM", str(tmp_path / "azure-proxy-agent"))
    monkeypatch.setattr(sys, "byteorder", "little")
    assert proxy_agent.is_visible() is is_visible
    (tmp_path / "azure-proxy-agent").touch()
    assert proxy_agent.is_visible() is True


def test_nothing_is_shared_where_rules_are_enforced_unless_a_directory_is_named(
    status_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_shared_caches", {})  # as in a new process
    status_file.write_text(json.dumps(status_document("IMDS Enforce")))
    directory = str(tmp_path / "cache")
    for setting, variable in ((None, ""), (None, "on"), (True, ""), ("on", directory)):
        environment = Environment({"IMDS_IDENTITY_CACHE": variable})
        assert shared_cache_for(setting, environment=environment) is None
    for setting, variable in ((directory, ""), (None, directory)):
        environment = Environment({"IMDS_IDENTITY_CACHE": variable})
        found = shared_cache_for(setting, environment=environment)
        assert found is not None
        assert found.directory.path == directory
    status_file.write_text(json.dumps(status_document("IMDS Audit")))
    assert shared_cache_for(environment=Environment({})) is not None

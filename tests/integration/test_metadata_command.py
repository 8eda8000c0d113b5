"""The commands for instance metadata, attested documents and scheduled events."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity.emulator import Emulator, Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Ran = Any


@pytest.fixture(name="start_emulator")
def _start_emulator(
    start_emulator: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Emulator]:
    """Return a function that starts an emulator as this machine's metadata service."""

    def start(*arguments: Any, **options: Any) -> Emulator:
        emulator = start_emulator(*arguments, **options)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.endpoint)
        return emulator

    return start


class TestMetadata:
    def test_scalar_is_printed_as_text_and_an_object_as_json(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        emulator = start_emulator()
        assert run_cli("metadata", "compute/vmId") == (0, emulator.machine.vm_id + "\n", "")
        for path in ("/metadata/instance/compute/vmId", "instance/compute/vmId", "compute/vmId/"):
            assert run_cli("metadata", path)[1] == emulator.machine.vm_id + "\n"
        assert json.loads(run_cli("metadata")[1])["compute"]["vmId"] == emulator.machine.vm_id
        assert json.loads(run_cli("metadata", "compute/vmId", "-o", "json")[1])
        assert (
            json.loads(run_cli("metadata", "network/interface/0")[1])["macAddress"]
            == "000D3A000004"
        )

    def test_secrets_are_printed_only_on_request(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        start_emulator(machine=Machine(user_data="c2VjcmV0"))
        for path in ("", "compute"):
            for output in ("json", "text", "table"):
                status, out, _ = run_cli("metadata", path, "-o", output)
                assert status == 0
                assert "vmId" in out
                assert "userData" not in out
                assert "c2VjcmV0" not in out
                assert "c2VjcmV0" in run_cli("metadata", path, "-o", output, "--show")[1]
        status, out, err = run_cli("metadata", "compute/userData")
        assert (status, out) == (1, "")
        assert "pass --show" in err
        assert run_cli("metadata", "compute/userData", "--show") == (0, "c2VjcmV0\n", "")

    def test_object_in_text_has_a_line_for_each_value(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        start_emulator(machine=Machine(tags={"a": "tab\there", "b": "\x1b[31m"}))
        status, out, _ = run_cli("metadata", "compute/tagsList", "-o", "text")
        assert status == 0
        assert out == "0/name\ta\n0/value\ttab\\there\n1/name\tb\n1/value\t\\x1b[31m\n"
        table = run_cli("metadata", "compute/tagsList", "-o", "table")[1]
        assert table.splitlines()[1] == "0/value  tab\\there"

    def test_documents_besides_the_instance_document(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        emulator = start_emulator()
        assert "2025-04-07" in json.loads(run_cli("metadata", "versions")[1])
        assert json.loads(run_cli("metadata", "public-ips")[1]) == ["203.0.113.4", "203.0.113.10"]
        assert "inboundRules" in json.loads(run_cli("metadata", "loadbalancer")[1])
        tenant = json.loads(run_cli("metadata", "identity/info")[1])["tenantId"]
        assert tenant == emulator.machine.tenant_id
        assert run_cli("metadata", "versions", "-o", "text")[1].startswith(
            "2017-03-01\n2017-04-02\n"
        )

    def test_exit_statuses(self, start_emulator: Callable[..., Emulator], run_cli: Ran) -> None:
        emulator = start_emulator()
        status, out, err = run_cli("metadata", "compute/NAME")
        assert (status, out) == (4, "")
        assert err.startswith("imds-identity: The instance document has no 'compute/NAME'")
        assert run_cli("metadata", "-o", "xml")[0] == 2
        assert run_cli("metadata", "--api-version", "latest")[0] == 2
        assert run_cli("metadata", "--wait", "-1")[0] == 2
        emulator.fault(category="instance", status=403)
        assert run_cli("metadata")[0] == 4
        emulator.clear_faults()
        emulator.fault(category="instance", status=200, body="[]")
        assert run_cli("metadata")[0] == 1
        assert run_cli("metadata", "--endpoint", "http://127.0.0.1:9")[0] == 3
        assert "Exit status" in run_cli("--help")[1]

    def test_wait_for_the_service_to_start(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        start_emulator().fault(category="instance", status=404, times=1)
        assert run_cli("metadata", "compute/name", "--wait", "30")[0] == 0

    def test_missing_document_on_azure_stack_hub(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        start_emulator("stack-hub", machine=Machine(environment="AzureStack"))
        status, _, err = run_cli("metadata", "loadbalancer")
        assert status == 3
        assert "not available on Azure Stack Hub" in err


class TestAttested:
    @pytest.fixture
    def trust(self, start_emulator: Callable[..., Emulator]) -> list[str]:
        return ["--ca-file", start_emulator().attested_ca_file, "--offline"]

    def test_root_and_intermediate_may_be_in_separate_files(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        emulator = start_emulator()
        flags = ("--intermediate", emulator.attested_intermediate_file, "--offline")
        root = emulator.attested_root_file
        assert run_cli("attested", "--ca-file", root, *flags)[0] == 0
        assert run_cli("attested", "--root", root, *flags)[0] == 0
        assert run_cli("attested", "--root", root, "--offline")[0] == 4

    def test_own_document_is_fetched_and_verified(self, trust: list[str], run_cli: Ran) -> None:
        status, out, err = run_cli("attested", "--nonce", "abc", *trust)
        assert (status, err) == (0, "")
        fields = json.loads(out)
        assert fields["nonce"] == "abc"
        assert fields["cloud"] == "AzurePublicCloud"
        text = run_cli("attested", "-o", "text", *trust)[1]
        assert f"vmId\t{fields['vmId']}\n" in text

    @pytest.mark.parametrize("form", ["text", "json", "der", "utf-16", "utf-8-sig"])
    def test_document_of_another_machine_is_verified(
        self, trust: list[str], run_cli: Ran, tmp_path: Path, form: str
    ) -> None:
        import base64

        _, out, _ = run_cli(
            "attested", "--signature", "--nonce", "7", "-o", "json" if form == "json" else "text"
        )
        file = tmp_path / "document"
        encoding = form if form.startswith("utf") else "utf-8"
        file.write_bytes(base64.b64decode(out) if form == "der" else out.encode(encoding))
        status, out, err = run_cli("attested", "--verify", str(file), "--nonce", "7", *trust)
        assert (status, err) == (0, "")
        assert json.loads(out)["nonce"] == "7"
        status, out, err = run_cli("attested", "--verify", str(file), *trust)
        assert status == 0
        assert "the nonce was not compared" in err
        status, out, err = run_cli("attested", "--verify", str(file), "--nonce", "8", *trust)
        assert (status, out) == (4, "")
        assert "another request" in err
        minute = ("--nonce", "7", "--max-age", "60")
        assert run_cli("attested", "--verify", str(file), *minute, *trust)[0] == 0
        late = ("--at", "2099-01-01T00:00:00Z")
        assert run_cli("attested", "--verify", str(file), *late, *trust)[0] == 4
        assert run_cli("attested", "--verify", str(file), "--offline")[0] == 4
        online = [each for each in trust if each != "--offline"]
        revocation = ("attested", "--verify", str(file), "--nonce", "7", "--check-revocation")
        status, _, err = run_cli(*revocation, *online)
        assert (status, "it names no revocation list at an allowed host" in err) == (4, True)
        assert run_cli(*revocation, *trust)[0] == 2

    @pytest.mark.parametrize("content", [b"", b"{}", b"{", b"\xff\x00", b"x", b'{"signature": 1}'])
    def test_invalid_document_is_not_verified(
        self, run_cli: Ran, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "document").write_bytes(content)
        assert run_cli("attested", "--verify", str(tmp_path / "document"), "--nonce", "1")[0] == 4

    def test_wrong_usage(self, run_cli: Ran, tmp_path: Path) -> None:
        status, _, err = run_cli("attested", "--verify", str(tmp_path / "none"))
        assert status == 1
        assert "No such file" in err
        assert run_cli("attested", "--at", "2020-01-01")[0] == 2
        assert run_cli("attested", "--verify", "x", "--at", "noon")[0] == 2
        assert run_cli("attested", "--nonce", "a\tb")[0] == 2
        (tmp_path / "document").write_bytes(b"x")
        verify = ("attested", "--verify", str(tmp_path / "document"))
        assert run_cli(*verify, "--max-age", "0")[0] == 2
        assert run_cli(*verify, "--proxy", "proxy:3128")[0] == 2
        assert (
            "'noon' is not a time such as 20"
            in run_cli("attested", "--verify", "x", "--at", "noon")[2]
        )

    @pytest.mark.parametrize("nonce", [["--nonce"], ["--nonce", ""]])
    def test_empty_nonce_is_refused(self, run_cli: Ran, nonce: list[str]) -> None:
        assert run_cli("attested", "--verify", os.devnull, *nonce)[0] == 2


class TestEvents:
    def test_events_of_this_machine_are_listed(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        emulator = start_emulator()
        assert run_cli("events") == (0, "", "imds-identity: no scheduled events\n")
        own = emulator.schedule_event("Reboot", description="a\tb")
        other = emulator.schedule_event("Freeze", resources=["another"])
        status, out, err = run_cli("events")
        assert (status, err) == (0, "")
        fields = out.rstrip("\n").split("\t")
        assert fields[:3] == [own, "Reboot", "Scheduled"]
        assert fields[4:] == ["emulated-machine", "a\\tb"]
        assert other in run_cli("events", "--all")[1]
        document = json.loads(run_cli("events", "-o", "json")[1])
        assert [each["EventId"] for each in document["Events"]] == [own]
        assert document["DocumentIncarnation"] == 3
        assert run_cli("events", "-o", "table")[1].splitlines()[0].split() == [
            *("EVENT", "TYPE", "STATUS", "NOT", "BEFORE", "RESOURCES", "DESCRIPTION")
        ]

    def test_event_is_started(self, start_emulator: Callable[..., Emulator], run_cli: Ran) -> None:
        emulator = start_emulator()
        event = emulator.schedule_event("Reboot")
        assert run_cli("events", "--start", event) == (0, "", "")
        assert emulator.events[0].status == "Started"
        assert run_cli("events", "--start", "none")[0] == 4

    @pytest.mark.parametrize(
        "flags",
        [
            ("--exec", "true"),
            ("--state", "file"),
            ("--follow", "--approve"),
            ("--follow", "--dry-run"),
            ("--follow", "--start", "A"),
            ("--follow", "--exec", "true", "--margin", "-1"),
            ("--follow", "--exec", "true", "--hook-timeout", "0"),
            ("--follow", "--exec", "true", "--hook-timeout", "inf"),
            ("--follow", "--exec", "true", "--hook-timeout", "nan"),
            ("--follow", "--exec", "", "--approve"),
            ("--follow", "--exec", " "),
            ("--follow", "--state", ""),
            ("--follow", "--exec", "true", "--approve", "everything"),
        ],
    )
    def test_incompatible_flags_are_refused(self, run_cli: Ran, flags: tuple[str, ...]) -> None:
        assert run_cli("events", *flags)[0] == 2

    def test_follow_ends_if_the_service_is_not_available(
        self, start_emulator: Callable[..., Emulator], run_cli: Ran
    ) -> None:
        start_emulator("stack-hub", machine=Machine(environment="AzureStack"))
        assert run_cli("events", "--follow")[0] == 3


class Follower:
    """A process that runs ``imds-identity events --follow``."""

    def __init__(self, *flags: str, **options: Any) -> None:
        command = [sys.executable, "-m", "imds_identity", "events", "--follow", *flags]
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=subprocess.PIPE, env={**os.environ}, **options
        )

    def line(self) -> str:
        """Return the next line; empty if there is none in time."""
        assert self._process.stdout is not None
        timer = threading.Timer(30, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.readline().decode()
        finally:
            timer.cancel()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        self._process.communicate(timeout=30)
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def test_each_change_is_printed_once_despite_restarts(
    start_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = start_emulator()
    flags = ("--state", str(tmp_path / "state"), "-o", "json")
    follower = Follower(*flags)
    first = emulator.schedule_event("Reboot")
    assert json.loads(follower.line())["EventId"] == first
    second = emulator.schedule_event("Freeze")
    change = json.loads(follower.line())
    assert (change["Change"], change["EventId"]) == ("scheduled", second)
    state = tmp_path / "state"
    deadline = time.monotonic() + 30
    while second not in _content(state):
        assert time.monotonic() < deadline
        time.sleep(0.1)  # Windows cannot replace an open file
    follower.kill()
    emulator.cancel_event(first)
    follower = Follower(*flags)
    change = json.loads(follower.line())
    assert (change["Change"], change["EventId"]) == ("gone", first)
    follower.kill()


def _content(path: Path) -> str:
    with contextlib.suppress(PermissionError):  # on Windows, while the file is replaced
        return path.read_text()
    return ""


def test_broken_pipe_has_no_traceback(start_emulator: Callable[..., Emulator]) -> None:
    emulator = start_emulator()
    emulator.schedule_event("Reboot")
    command = [sys.executable, "-m", "imds_identity", "events", "--follow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    emulator.schedule_event("Freeze")
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="requires a POSIX shell")
def test_closed_output_is_not_replaced_by_the_other() -> None:
    def run(closed: str) -> subprocess.CompletedProcess[bytes]:
        command = f'"{sys.executable}" -m imds_identity metadata --endpoint x {closed}'
        return subprocess.run(command, shell=True, capture_output=True, check=False)

    done = run("2>&-")
    assert (done.returncode, done.stdout) == (2, b"")
    done = run(">&-")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"standard output is closed" in done.stderr


def test_event_is_approved_after_its_command(
    start_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = start_emulator()
    script = tmp_path / "drain.py"
    script.write_text(
        "import os, sys\n"
        "open(os.path.join(sys.argv[1], os.environ['IMDS_EVENT_CHANGE']), 'w')"
        ".write(sys.stdin.read())"
    )
    command = f'"{sys.executable}" "{script}" "{tmp_path}"'
    follower = Follower("--exec", command, "--approve")
    event = emulator.schedule_event("Redeploy")
    assert follower.line().split("\t")[:3] == ["scheduled", event, "Redeploy"]
    assert follower.line().split("\t")[:2] == ["started", event]
    follower.kill()
    assert json.loads((tmp_path / "scheduled").read_text())["EventId"] == event


def test_dry_run_changes_nothing(start_emulator: Callable[..., Emulator], tmp_path: Path) -> None:
    emulator = start_emulator()
    event = emulator.schedule_event("Redeploy")
    state, ran = tmp_path / "state", tmp_path / "ran"
    command = f"\"{sys.executable}\" -c \"open(r'{ran}', 'w')\""
    flags = ("--exec", command, "--approve", "--state", str(state), "--dry-run")
    follower = Follower(*flags, stderr=subprocess.STDOUT)
    lines = [follower.line() for _ in range(3)]
    follower.kill()
    assert lines[0].split("\t")[:2] == ["scheduled", event]
    assert lines[1].startswith("imds-identity: would run the command for scheduled Redeploy")
    assert lines[2].startswith("imds-identity: would approve Redeploy")
    assert not ran.exists()
    assert not state.exists()
    assert emulator.events[0].status == "Scheduled"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_stops_the_running_command(
    start_emulator: Callable[..., Emulator], tmp_path: Path, number: int, status: int
) -> None:
    emulator = start_emulator()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    follower = Follower("--exec", f"exec 3>'{fifo}'; sleep 600 & echo x >&3; wait")
    emulator.schedule_event("Redeploy")
    # The command opens the other end; if it does not within half a minute, this timer does.
    timer = threading.Timer(30, lambda: os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)))
    timer.start()
    with fifo.open("rb") as reader:
        line = reader.readline()
        timer.cancel()
        assert line == b"x\n"
        follower.send_signal(number)
        assert reader.read() == b""  # when neither the shell nor its child has it open
    assert follower.status() == status

"""Recording the failures of a session, and replaying them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from emulator.support import run_command
from imds_identity.emulator import Emulator, ManualClock
from imds_identity.emulator._messages import Request, Response
from imds_identity.emulator._state.request_log import Outcome, RequestLog

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Send, Start


def test_replay_repeats_the_failures_of_faults(
    start_emulator: Start, request_token: Send, get: Send, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"

    def session(emulator: Emulator) -> list[tuple[int, str]]:
        seen = []
        for number in range(6):
            response = request_token(emulator)
            seen.append((response.status_code, response.headers.get("Retry-After", "")))
            if number % 2:
                response = get(emulator, "/metadata/instance", api_version="2021-02-01")
                seen.append((response.status_code, response.text[:20]))
        return seen

    recorded = start_emulator(record=file)
    recorded.fault(status=429, retry_after=2, after=1, times=2)
    recorded.fault(status=503, after=1, times=1)
    recorded.fault(category="instance", status=200, body=b"{", after=1, times=1)
    first = session(recorded)
    assert [status for status, _ in first].count(429) == 2
    recorded.stop()
    assert session(start_emulator(replay=file)) == first


def test_replay_repeats_the_failures_of_limits(
    start_emulator: Start, get: Send, tmp_path: Path, clock: ManualClock
) -> None:
    file = tmp_path / "session.jsonl"
    recorded = start_emulator(record=file, limits=True, clock=clock)
    first = [get(recorded, "/metadata/versions").status_code for _ in range(7)]
    recorded.stop()
    again = start_emulator(replay=file)
    assert [get(again, "/metadata/versions").status_code for _ in range(7)] == first
    assert first == [200] * 5 + [429] * 2


def test_replay_repeats_the_failures_of_an_arc_leg(
    start_emulator: Start, request_token: Send, request_arc_token: Send, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    recorded = start_emulator("arc", record=file)
    recorded.fault(leg="answer", status=500, times=1)
    assert [request_arc_token(recorded).status_code for _ in range(2)] == [500, 200]
    recorded.stop()
    again = start_emulator("arc", replay=file)
    assert [request_arc_token(again).status_code for _ in range(2)] == [500, 200]


def test_recording_contains_no_token(
    start_emulator: Start, request_token: Send, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    token = request_token(start_emulator(record=file)).json()["access_token"]
    assert token[:20] not in file.read_text()
    assert json.loads(file.read_text())["status"] == 200


@pytest.mark.parametrize("line", ["", "{", "[]", '{"category": "identity"}', "\udcff"])
def test_file_that_is_not_a_recording_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text(f"{line}\n", encoding="utf-8", errors="surrogateescape")
    assert run_command("--replay", str(file), "--port", "0") == 2
    assert "line 1" in capsys.readouterr().err


def test_recording_without_write_access_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Emulator(record=tmp_path / "nowhere" / "file", key_vault=False).start()


def test_log_ignores_requests_that_finish_after_a_reset() -> None:
    log = RequestLog(10)
    request, response = Request.parse("GET", "/"), Response(200)
    before = log.add(request, response, Outcome("identity"), 1.0)
    log.clear()
    log.add(request, response, Outcome("identity"), 2.0)
    log.finish(before, 5.0, {})
    assert [record.seconds for record in log.snapshot()] == [None]

"""A session is recorded, and what went wrong in it goes wrong again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from emulator.support import ran
from imds_identity.emulator import Emulator, ManualClock
from imds_identity.emulator._messages import Request, Response
from imds_identity.emulator._state.records import Judged, RequestLog

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.support import Ask, Start


def test_what_went_wrong_goes_wrong_again(
    started: Start, ask: Ask, get: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"

    def session(emulator: Emulator) -> list[tuple[int, str]]:
        seen = []
        for number in range(6):
            answer = ask(emulator)
            seen.append((answer.status_code, answer.headers.get("Retry-After", "")))
            if number % 2:
                answer = get(emulator, "/metadata/instance", api_version="2021-02-01")
                seen.append((answer.status_code, answer.text[:20]))
        return seen

    recorded = started(record=file)
    recorded.fault(status=429, retry_after=2, after=1, times=2)
    recorded.fault(status=503, after=1, times=1)
    recorded.fault(category="instance", status=200, body=b"{", after=1, times=1)
    first = session(recorded)
    assert [status for status, _ in first].count(429) == 2
    recorded.stop()
    assert session(started(replay=file)) == first


def test_what_the_limits_refused_is_refused_again(
    started: Start, get: Ask, tmp_path: Path, clock: ManualClock
) -> None:
    file = tmp_path / "session.jsonl"
    recorded = started(record=file, limits=True, clock=clock)
    first = [get(recorded, "/metadata/versions").status_code for _ in range(7)]
    recorded.stop()
    again = started(replay=file)
    assert [get(again, "/metadata/versions").status_code for _ in range(7)] == first
    assert first == [200] * 5 + [429] * 2


def test_both_legs_of_arc_fail_again_where_they_failed(
    started: Start, ask: Ask, ask_arc: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    recorded = started("arc", record=file)
    recorded.fault(leg="answer", status=500, times=1)
    assert [ask_arc(recorded).status_code for _ in range(2)] == [500, 200]
    recorded.stop()
    again = started("arc", replay=file)
    assert [ask_arc(again).status_code for _ in range(2)] == [500, 200]


def test_a_recording_holds_no_token(started: Start, ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "session.jsonl"
    token = ask(started(record=file)).json()["access_token"]
    assert token[:20] not in file.read_text()
    assert json.loads(file.read_text())["status"] == 200


@pytest.mark.parametrize("line", ["", "{", "[]", '{"category": "identity"}', "\udcff"])
def test_a_file_that_is_no_recording_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text(f"{line}\n", encoding="utf-8", errors="surrogateescape")
    assert ran("--replay", str(file), "--port", "0") == 2
    assert "line 1" in capsys.readouterr().err


def test_a_recording_that_cannot_be_written_is_an_error_at_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Emulator(record=tmp_path / "nowhere" / "file", key_vault=False).start()


def test_a_reset_forgets_requests_that_are_under_way() -> None:
    log = RequestLog(10)
    request, answer = Request.parse("GET", "/"), Response(200)
    before = log.add(request, answer, Judged("identity"), 1.0)
    log.clear()
    log.add(request, answer, Judged("identity"), 2.0)
    log.finish(before, 5.0)
    assert [record.seconds for record in log.snapshot()] == [None]

"""Files that hold a current token: their content, their renewal and their removal."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Reason, Unavailable
from imds_identity._shared_cache.mounts import Mounts
from imds_identity.cli.memory_files import MemoryFile
from imds_identity.cli.pgpass import pgpass_content, pgpass_resource
from imds_identity.cli.token_files import (
    Target,
    TokenFile,
    targets_at_paths,
    targets_in_memory,
    warn_of_disks,
)  # fmt: skip
from support import new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity._core.token import Token
    from support import FakeClock

linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files in memory need Linux")
RESOURCE = "api://AzureADTokenExchange"


class Client:
    """Returns the result of each step in turn; the last one stops the loop that asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.steps: list[Callable[[], Token]] = []
        self.asked_at: list[float] = []

    def entry(self, resource: str) -> str:
        return resource

    def token(self, entry: str) -> Token:
        assert entry == RESOURCE
        self.asked_at.append(self.clock.now())
        return self.steps.pop(0)()

    def returns(self, value: str, life: float = 3600.0) -> None:
        token = new_token(self.clock, value, life)
        self.steps.append(lambda: token)

    def fails(self) -> None:
        def fail() -> Token:
            raise Unavailable("the service is down", "Wait.", reason=Reason.NO_RESPONSE)

        self.steps.append(fail)


@pytest.fixture
def client(clock: FakeClock) -> Client:
    return Client(clock)


@pytest.fixture
def written() -> list[str]:
    return []


@pytest.fixture
def file(client: Client, clock: FakeClock, written: list[str]) -> TokenFile:
    def write(content: bytes) -> Callable[[], None]:
        written.append(content.decode())
        return lambda: written.append("removed")

    target = Target("TOKEN_FILE", RESOURCE, write, lambda token: f"<{token}>")
    return TokenFile(target, client, clock)  # type: ignore[arg-type]


def run(file: TokenFile, client: Client) -> None:
    """Run the loop for all steps that are left."""

    def stop() -> Token:
        file.remove()
        raise Unavailable("stopped", reason=Reason.NO_RESPONSE)

    client.steps.append(stop)
    file.keep_current()


def test_token_is_written_once(file: TokenFile, client: Client, written: list[str]) -> None:
    client.returns("one")
    client.returns("one")
    file.update()
    file.update()
    assert written == ["<one>"]


def test_newer_token_replaces_the_older_one(
    file: TokenFile, client: Client, written: list[str], clock: FakeClock
) -> None:
    client.returns("one")
    client.returns("one")
    client.returns("two")
    file.update()
    run(file, client)
    assert written == ["<one>", "<two>", "removed"]
    assert clock.slept == [20.0, 20.0, 20.0]


@pytest.mark.parametrize(("life", "seconds"), [(100.0, 10.0), (6.0, 0.6), (0.5, 0.2)])
def test_short_lifetimes_are_checked_more_often(
    file: TokenFile, client: Client, clock: FakeClock, life: float, seconds: float
) -> None:
    client.returns("one", life)
    file.update()
    run(file, client)
    assert clock.slept == [pytest.approx(seconds)]


def test_failure_is_reported_once_for_each_outage(
    file: TokenFile, client: Client, written: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    client.returns("one")
    for _ in range(2):
        client.fails()
        client.fails()
        client.returns("two")
    file.update()
    run(file, client)
    lines = [line for line in capsys.readouterr().err.splitlines() if "service is down" in line]
    assert len(lines) == 2
    assert "TOKEN_FILE keeps its previous token" in lines[0]
    assert written == ["<one>", "<two>", "removed"]


def test_expired_token_is_requested_again_every_few_seconds(
    file: TokenFile, client: Client, clock: FakeClock
) -> None:
    client.returns("one", 2.0)
    client.fails()
    client.fails()
    file.update()
    run(file, client)
    assert clock.slept == [pytest.approx(0.2), 5.0, 5.0]


def test_error_of_the_file_system_is_reported_and_tried_again(
    client: Client, clock: FakeClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "here" / "token"

    def write(content: bytes) -> None:
        path.write_bytes(content)

    def two() -> Token:
        path.parent.mkdir()
        return new_token(clock, "two")

    file = TokenFile(
        Target(str(path), RESOURCE, write),
        client,  # type: ignore[arg-type]
        clock,
    )
    client.returns("one")
    with pytest.raises(FileNotFoundError):
        file.update()
    client.returns("one")
    client.steps.append(two)
    run(file, client)
    assert path.read_text() == "two"
    assert "cannot be replaced" in capsys.readouterr().err


def test_removed_file_is_not_written_again(
    file: TokenFile, client: Client, written: list[str]
) -> None:
    client.returns("one")
    client.returns("two")
    file.update()
    file.remove()
    file.update()
    assert written == ["<one>", "removed"]


@linux
def test_memory_file_is_replaced_under_the_same_path() -> None:
    file = MemoryFile("token", mode=0o600)
    file.write(b"old")
    path = file.path
    with Path(path).open("rb") as reader:
        file.write(b"newer")
        assert reader.read() == b"old"
    assert file.path == path
    assert Path(path).read_bytes() == b"newer"
    status = os.stat(path)
    assert (stat.S_ISREG(status.st_mode), stat.S_IMODE(status.st_mode)) == (True, 0o600)


@linux
def test_memory_files_leave_no_descriptors_behind() -> None:
    file = MemoryFile("token")
    file.write(b"0")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        file.write(b"%d" % number)
    assert len(os.listdir("/proc/self/fd")) == before


@linux
def test_missing_files_in_memory_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes forbid the system call, or have no /proc. A file that exists keeps its content."""
    file = MemoryFile("token")
    file.write(b"old")

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(ValueError, match=r"memfd_create and /proc: Operation not permitted\."):
        MemoryFile("token").write(b"new")
    with pytest.raises(PermissionError):
        file.write(b"new")
    assert Path(file.path).read_bytes() == b"old"


def flags(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{"token_file": [], "pgpass": [], "cloud": "AzurePublicCloud", "source": None, **given}
    )


@linux
def test_variables_name_files_in_memory() -> None:
    args = flags(
        token_file=[
            f"AZURE_FEDERATED_TOKEN_FILE={RESOURCE}",
            "OTHER=https://vault.azure.net/.default",
        ],
        pgpass=["my.postgres.database.azure.com:5432:app:web"],
    )
    targets, files = targets_in_memory(args)
    assert [(target.name, target.resource) for target in targets] == [
        ("AZURE_FEDERATED_TOKEN_FILE", RESOURCE),
        ("OTHER", "https://vault.azure.net"),
        ("PGPASSFILE", "https://ossrdbms-aad.database.windows.net"),
    ]
    for target in targets:
        target.write(target.content("t").encode())
    assert [Path(file.path).read_text() for file in files.values()] == [
        "t",
        "t",
        "my.postgres.database.azure.com:5432:app:web:t\n",
    ]


@linux
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"token_file": ["X"]}, "'X' is not VARIABLE=RESOURCE"),
        ({"token_file": ["X="]}, "'X=' is not VARIABLE=RESOURCE"),
        ({"token_file": ["=api://x"]}, "is not VARIABLE=RESOURCE"),
        ({"token_file": ["A-B=api://x"]}, "'A-B' is not the name of a variable"),
        ({"token_file": ["A=api://x", "A=api://y"]}, "the same variable twice"),
        ({"token_file": ["PGPASSFILE=api://x"], "pgpass": ["host"]}, "the same variable twice"),
    ],
)
def test_invalid_flags_are_refused(given: dict[str, list[str]], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        targets_in_memory(flags(**given))


@pytest.mark.skipif(sys.platform == "linux", reason="Linux has files in memory")
def test_other_systems_have_no_files_in_memory() -> None:
    with pytest.raises(ValueError, match="require Linux"):
        targets_in_memory(flags(token_file=["A=api://x"]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_refused(tmp_path: Path) -> None:
    """Each update would wait for a reader, and so would the end of `serve`."""
    os.mkfifo(tmp_path / "pipe")
    args = flags(token_file=[f"{tmp_path / 'pipe'}=https://vault.azure.net"])
    with pytest.raises(ValueError, match="is a pipe, which cannot hold a token"):
        targets_at_paths(args)


def test_paths_are_separated_at_the_last_equals_sign() -> None:
    [target] = targets_at_paths(flags(token_file=["/run/a=b/token=api://x"]))
    assert (target.name, target.resource) == ("/run/a=b/token", "api://x")
    with pytest.raises(ValueError, match="the same path twice"):
        targets_at_paths(flags(token_file=["/run/a=api://x", "/run/a=api://y"]))


def test_file_outside_memory_causes_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    devices = {tmp_path.stat().st_dev}
    targets = targets_at_paths(flags(token_file=[f"{tmp_path / 'sub/token'}=api://x"]))
    for found in (devices, {max(devices) + 1}, set()):  # in memory, on a disk, unknown
        mounts = Mounts(frozenset(found), frozenset())
        monkeypatch.setattr("imds_identity._shared_cache.mounts.current_mounts", lambda m=mounts: m)
        warn_of_disks(targets)
        is_on_disk = "token is not in memory: if this process" in capsys.readouterr().err
        assert is_on_disk is (found not in (devices, set()))


@pytest.mark.parametrize(
    ("server", "line"),
    [
        ("db", "db:*:*:*:t"),
        ("db:5432", "db:5432:*:*:t"),
        ("db:*:app", "db:*:app:*:t"),
        ("[fe80::1]:5432:app:a\\b", r"fe80\:\:1:5432:app:a\\b:t"),
        ("/var/run/postgresql", "/var/run/postgresql:*:*:*:t"),
    ],
)
def test_password_file_has_a_line_for_each_server(server: str, line: str) -> None:
    assert pgpass_content([server, "x"], "t") == f"{line}\nx:*:*:*:t\n"


@pytest.mark.parametrize(
    "server", ["", "*", "*:5432", ":5432", "a:b", "a:1:b:c:d", "a:1:b\nc:1:d", "[::1", "a b"]
)
def test_invalid_servers_are_refused(server: str) -> None:
    with pytest.raises(ValueError, match="is not HOST"):
        pgpass_content([server], "t")


@given(
    st.text(min_size=1), st.text(alphabet=st.characters(codec="ascii", exclude_characters="\n\0"))
)
def test_a_server_never_adds_a_second_line(server: str, token: str) -> None:
    try:
        content = pgpass_content([server], token)
    except ValueError:
        return
    fields = content.replace("\\\\", "").replace("\\:", "").split(":")
    assert (content.count("\n"), len(fields)) == (1, 5)
    assert fields[0] != "*"


@pytest.mark.parametrize(
    ("servers", "cloud", "resource"),
    [
        (["a.postgres.database.azure.com"], None, "https://ossrdbms-aad.database.windows.net"),
        (["A.Postgres.Database.Azure.com."], None, "https://ossrdbms-aad.database.windows.net"),
        (
            ["a.postgres.database.usgovcloudapi.net"],
            None,
            "https://ossrdbms-aad.database.usgovcloudapi.net",
        ),
        (
            ["a.postgres.database.chinacloudapi.cn:5432", "own-name"],
            "AzureChinaCloud",
            "https://ossrdbms-aad.database.chinacloudapi.cn",
        ),
    ],
)
def test_resource_is_that_of_the_server_s_cloud(
    servers: list[str], cloud: str | None, resource: str
) -> None:
    assert pgpass_resource(flags(pgpass=servers, cloud=cloud)) == resource


def test_servers_of_several_clouds_are_refused() -> None:
    servers = ["a.postgres.database.azure.com", "a.postgres.database.chinacloudapi.cn"]
    with pytest.raises(ValueError, match="different clouds"):
        pgpass_resource(flags(pgpass=servers))

"""``imds-identity exec``: the command's tokens, environment, signals and exit status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from imds_identity._endpoint.child import PosixChild
from imds_identity.cli.exec import _run_in_foreground
from imds_identity.emulator import DEFAULT_USER_ASSIGNED
from imds_identity.emulator._state.tokens import EXCHANGE_AUDIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and programs of POSIX")

EXEC = [sys.executable, "-m", "imds_identity", "exec"]
VAULT = "https://vault.azure.net"
REQUEST = """
import os, sys, urllib.error, urllib.request
url = os.environ["IDENTITY_ENDPOINT"] + "?api-version=2019-08-01&resource=" + sys.argv[1]
request = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]})
try:
    print(urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print(error.status, error.read().decode())
"""
LOOP = "import signal, sys, time; {} print('ready', flush=True); time.sleep(60)"


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EXEC, *arguments], capture_output=True, text=True, timeout=60, check=False, **more
    )


def python(script: str, *arguments: str) -> list[str]:
    return ["--", sys.executable, "-c", script, *arguments]


@contextlib.contextmanager
def running(command: list[str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Run ``exec`` with a command that prints ``ready``."""
    process = subprocess.Popen([*EXEC, *command], stdout=subprocess.PIPE, text=True, **more)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_command_gets_tokens(imds_emulator: Emulator) -> None:
    done = run(*python(REQUEST, VAULT))
    assert (done.returncode, done.stderr) == (0, "")
    body = json.loads(done.stdout)
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert claims["aud"] == VAULT
    assert body["expires_on"] == str(claims["exp"])
    assert body["client_id"] == claims["appid"]


def test_flags_select_the_identity(imds_emulator: Emulator) -> None:
    client_id = DEFAULT_USER_ASSIGNED.client_id
    done = run("--client-id", client_id, *python(REQUEST, VAULT))
    assert json.loads(done.stdout)["client_id"] == client_id
    other = run("--client-id", client_id, *python(REQUEST, f"{VAULT}&client_id=another"))
    assert other.stdout.startswith("403 ")


def test_other_resources_are_refused(imds_emulator: Emulator) -> None:
    done = run("--allow-resource", VAULT, *python(REQUEST, "https://management.azure.com"))
    assert done.stdout.startswith("403 ")
    assert imds_emulator.token_requests == []


def test_throttled_service_makes_the_endpoint_busy(imds_emulator: Emulator) -> None:
    imds_emulator.fault(category="identity", status=429, headers={"Retry-After": "300"})
    assert run(*python(REQUEST, VAULT)).stdout.startswith("503 ")


def test_variables_of_other_endpoints_are_removed(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("MSI_SECRET", "an old one")
    monkeypatch.setenv("KEPT", "this")
    done = run(*python("import json, os; print(json.dumps(dict(os.environ)))"))
    environment = json.loads(done.stdout)
    assert environment["IDENTITY_ENDPOINT"].startswith("http://127.0.0.1:")
    assert environment["IDENTITY_ENDPOINT"].endswith("/msi/token")
    assert len(environment["IDENTITY_HEADER"]) == 64
    assert environment["KEPT"] == "this"
    assert not {
        "AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT",
        "MSI_ENDPOINT", "MSI_SECRET",
    } & environment.keys()  # fmt: skip


def test_pristine_environment_has_few_variables(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANOTHER_PASSWORD", "hunter2")
    done = run("--pristine", *python("import os; print(*os.environ)"))
    assert "ANOTHER_PASSWORD" not in done.stdout
    assert {"PATH", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"} <= set(done.stdout.split())


END_SCRIPT = """
import os, threading
from imds_identity.cli.exec import _run_in_foreground

def serve(has_started):
    threading.Event().wait(0.2)
    print("imported", flush=True)
    has_started.set()

status = _run_in_foreground(["true"], dict(os.environ), serve)
print("ended", status)
"""


@posix
def test_end_of_the_command_does_not_interrupt_imports() -> None:
    """A thread that imports an extension module while the interpreter ends can crash it."""
    done = subprocess.run(
        [sys.executable, "-c", END_SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["imported", "ended", "0"]


@pytest.mark.parametrize("flags", [[], ["--client-id", "another"], ["--object-id", "leftover"]])
@posix
def test_conflicting_client_id_is_reported(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "leftover")
    done = run(*flags, "--", "true")
    assert done.returncode == 0
    assert "AZURE_CLIENT_ID='leftover'" in done.stderr
    assert run("--client-id", "LEFTOVER", "--", "true").stderr == ""


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("kill $$", 143)],
)
@posix
def test_exit_status_is_that_of_the_command(script: str, status: int) -> None:
    assert run("--", "sh", "-c", script).returncode == status


@posix
def test_command_that_cannot_run_has_the_exit_status_of_shells(tmp_path: Path) -> None:
    assert run("--", "no-such-command").returncode == 127
    assert "no-such-command cannot be run" in run("--", "no-such-command").stderr
    assert run("--", str(tmp_path)).returncode == 126
    assert run("--").returncode == 2
    assert run().returncode == 2


@posix
def test_flags_of_the_command_are_not_parsed() -> None:
    assert run("--", "echo", "--client-id", "--", "-v").stdout == "--client-id -- -v\n"
    assert run("echo", "--cache").stdout == "--cache\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "WINCH", "USR1", "USR2"])
@posix
def test_signal_is_forwarded_to_the_command(name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    caught = f"signal.signal({int(number)}, lambda *_: sys.exit(42));"
    with running(python(LOOP.format(caught))) as process:
        process.send_signal(number)
        assert process.wait(30) == 42


@posix
def test_interrupted_command_has_exit_status_130() -> None:
    # Not a shell command: in the background, a shell makes it ignore the signal.
    script = LOOP.format("signal.signal(2, signal.SIG_DFL);")
    with running(python(script)) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_command_has_default_signal_dispositions() -> None:
    # Signals from 32 on belong to the C library.
    look = ["sed", "-nE", "s/^(Sig(Blk|Ign|Cgt)).*[0-9a-f](.{7})$/\\1 \\3/p", "/proc/self/status"]
    alone = subprocess.run(look, capture_output=True, text=True, check=True)
    assert run("--", *look).stdout == alone.stdout


def test_killing_exec_ends_its_server() -> None:
    script = "import os; print(os.environ['IDENTITY_ENDPOINT'].split(':')[2].split('/')[0]);"
    process = subprocess.Popen(
        [*EXEC, *python(script + LOOP.format(""))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    refused = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    process.stdout.close()
    assert "ConnectionRefusedError" in refused.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_secret_is_on_no_command_line(imds_emulator: Emulator) -> None:
    script = """
import os
secret = os.environ["IDENTITY_HEADER"]
lines = []
for pid in (os.getpid(), os.getppid()):
    lines.append(open(f"/proc/{pid}/cmdline").read())
# Only the command has it in its environment.
lines.append(open(f"/proc/{os.getppid()}/environ").read())
print(any(secret in line for line in lines), len(lines))
"""
    assert run(*python(script)).stdout == "False 3\n"


@posix
def test_secret_is_of_no_use_after_the_command(imds_emulator: Emulator) -> None:
    script = """
import os, subprocess, sys
print(os.environ["IDENTITY_ENDPOINT"], os.environ["IDENTITY_HEADER"])
subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.DEVNULL)
"""
    runs = [run(*python(script, "import time; time.sleep(3)")).stdout.split() for _ in range(2)]
    assert runs[0][1] != runs[1][1]
    for url, _ in runs:
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url, timeout=30)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="requires root")
def test_program_that_the_command_starts_as_another_user_gets_tokens(
    imds_emulator: Emulator,
) -> None:
    script = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], user=65534).returncode)"
    client = f"""
        port=$(cut -d: -f3 <<<"$IDENTITY_ENDPOINT" | cut -d/ -f1)
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf '%s\\r\\n' "GET /msi/token?api-version=2019-08-01&resource={VAULT} HTTP/1.1" \\
            "Host: 127.0.0.1:$port" "X-IDENTITY-HEADER: $IDENTITY_HEADER" "" >&3
        head -1 <&3"""
    assert run(*python(script, "bash", "-c", client)).stdout.startswith("HTTP/1.1 200")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc shows stopped processes")
def test_shell_notices_that_the_command_has_stopped() -> None:
    script = LOOP.format("import os; print(os.getpid(), flush=True);")
    process = subprocess.Popen([*EXEC, *python(script)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        child = int(process.stdout.readline())
        os.kill(child, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        process.send_signal(signal.SIGCONT)
        _wait_until_not_stopped(child)
        os.kill(child, signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
        process.communicate()


def _wait_until_not_stopped(pid: int) -> None:
    for _ in range(1000):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            return
        time.sleep(0.01)
    raise AssertionError("the process is still stopped")


@pytest.mark.skipif(sys.platform != "linux", reason="requires a Linux terminal")
def test_terminal_interrupts_the_command_once() -> None:
    import pty

    script = (
        "import signal, time; times = []; signal.signal(2, lambda *_: times.append(1));"
        "print('ready', flush=True); time.sleep(0.5); time.sleep(0.5); print('', len(times))"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(EXEC[0], [*EXEC, *python(script)])
    try:
        output = b""
        while b"ready" not in output:
            output += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        with contextlib.suppress(OSError):
            while data := os.read(terminal, 1000):
                output += data
    finally:
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert output.split()[-1] == b"1", output
    assert status == 0


def test_exec_can_be_nested(imds_emulator: Emulator) -> None:
    done = run("--", *EXEC, *python(REQUEST, VAULT))
    assert json.loads(done.stdout)["resource"] == VAULT


TOKEN_FILES = """
import json, os, stat
path = os.environ["AZURE_FEDERATED_TOKEN_FILE"]
print(json.dumps({
    "token": open(path).read(),
    "mode": stat.S_IMODE(os.stat(path).st_mode),
    "passwords": open(os.environ["PGPASSFILE"]).read(),
    "variables": sorted(os.environ),
}))
"""
linux = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files in memory need Linux")


def audience_of(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["aud"])


@linux
def test_command_reads_tokens_from_files_in_memory(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "an old one")
    flags = [
        *("--token-file", "AZURE_FEDERATED_TOKEN_FILE=api://AzureADTokenExchange/.default"),
        *("--pgpass", "my.postgres.database.azure.com:5432:app:web"),
    ]
    done = run(*flags, *python(TOKEN_FILES))
    found = json.loads(done.stdout)
    assert audience_of(found["token"]) == EXCHANGE_AUDIENCE
    assert found["mode"] == 0o600
    server, _, token = found["passwords"].rpartition(":")
    assert server == "my.postgres.database.azure.com:5432:app:web"
    assert audience_of(token.strip()) == "https://ossrdbms-aad.database.windows.net"
    assert not {"PGPASSWORD", "IDENTITY_ENDPOINT"} & set(found["variables"])
    assert "PGPASSWORD is not passed" in done.stderr
    with_endpoint = json.loads(run("--endpoint", *flags, *python(TOKEN_FILES)).stdout)
    assert {"AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"} <= set(with_endpoint["variables"])


@linux
def test_killed_exec_leaves_no_token_on_a_disk(imds_emulator: Emulator, tmp_path: Path) -> None:
    script = "print(os.environ['FILE'], os.environ['PGPASSFILE'], flush=True);"
    flags = ["--token-file", f"FILE={VAULT}", "--pgpass", "my.postgres.database.azure.com"]
    directories = dict.fromkeys(("HOME", "TMPDIR", "XDG_RUNTIME_DIR"), str(tmp_path))
    with subprocess.Popen(
        [*EXEC, *flags, *python("import os;" + script + LOOP.format(""))],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, **directories, "IMDS_IDENTITY_CACHE": "off"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        paths = process.stdout.readline().split()
        assert all(os.readlink(path).startswith("/memfd:") for path in paths)
        process.kill()
    assert [path for path in paths if Path(path).exists()] == []
    assert list(tmp_path.rglob("*")) == []


START_SCRIPT = """
import sys
from imds_identity.cli import exec, main

class Child:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def start(self, command, environment):
        print(*({"http.client", "hmac"} & set(sys.modules)))

    def wait(self):
        return 0

exec.new_child = Child
main(["exec", "--token-file", "FILE=https://vault.azure.net", "--", "true"])
print("http.client" in sys.modules)
"""


@linux
def test_cached_token_does_not_delay_the_command(imds_emulator: Emulator, tmp_path: Path) -> None:
    """What a fetch needs is imported while the command runs, and completely before the end."""
    environment = {**os.environ, "IMDS_IDENTITY_CACHE": str(tmp_path / "cache")}
    for is_cached in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", START_SCRIPT],
            env=environment, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        imported, at_the_end = done.stdout.splitlines()
        assert ("http.client" in imported.split()) is not is_cached
        assert at_the_end == "True"
    assert imported == ""


@linux
def test_command_does_not_start_without_its_token(imds_emulator: Emulator) -> None:
    done = run("--token-file", "FILE=https://unknown.example", *python("print('started')"))
    assert (done.returncode, done.stdout) == (4, "")
    assert "AADSTS500011" in done.stderr
    assert "imds-identity doctor --resource https://unknown.example" in done.stderr


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="it has no sigtimedwait")
def test_end_of_a_command_is_noticed_although_another_thread_received_its_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imds_identity._endpoint.child._POLL_SECONDS", 0.01)
    with PosixChild() as child:
        child.start(["sh", "-c", "exit 7"], {"PATH": os.environ["PATH"]})
        signal.sigtimedwait({signal.SIGCHLD}, 5.0)  # None if a thread of pytest-xdist received it
        assert child.wait() == 7


@posix
def test_command_is_waited_for_although_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_run: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("imds_identity.cli.exec.start_thread", fail)
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    assert _run_in_foreground(command, dict(os.environ), lambda _: None) == 7
    assert "warning: no thread can be started (can't start new thread)" in capsys.readouterr().err

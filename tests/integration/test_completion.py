"""Shell completion, tested with the command alone and with real shells."""

from __future__ import annotations

import argparse
import io
import os
import select
import shlex
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from argcomplete.finders import ExclusiveCompletionFinder

from imds_identity import cli
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from support import KEY, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Offered = "Callable[..., list[str]]"
CLIENT = "11111111-2222-3333-4444-555555555555"
RESOURCE_ID = "/subscriptions/s/resourcegroups/g/providers/x/y/one"
TIMEOUT_SECONDS = 20.0


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return the completions of the last word of a command line."""
    monkeypatch.setattr(ExclusiveCompletionFinder, "_init_debug_stream", lambda _: None)

    def offer(*words: str) -> list[str]:
        line = shlex.join(["imds-identity", *words[:-1]]) + f" {words[-1]}"
        output = io.StringIO()
        with monkeypatch.context() as patched:
            for name, value in completion_variables(line).items():
                patched.setenv(name, value)
            patched.setattr("argcomplete.finders.open", lambda *_: output, raising=False)
            with pytest.raises(SystemExit) as raised:
                cli.main([])
        assert raised.value.code == 0
        return output.getvalue().rstrip(" ").splitlines()

    return offer


def completion_variables(line: str) -> dict[str, str]:
    """Return the variables with which argcomplete's scripts request completions of a line."""
    return {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": "output",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedCache:
    """A shared token cache with two identities."""
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    cache = SharedCache(Directory.at(str(tmp_path / "cache")), SYSTEM_CLOCK)
    for selector, identity in (("client_id", CLIENT), ("resource_id", RESOURCE_ID)):
        key = KEY._replace(selector=selector, identity=identity, resource="https://one.example")
        cache.write(Record(key, new_token(SYSTEM_CLOCK, "s3cret")))
    return cache


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return each command's parser by its name."""
    return {name: subparsers(cli.build_parser([name])).choices[name] for name in cli.COMMANDS}


def subparsers(parser: argparse.ArgumentParser) -> Any:
    [action] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return action


class TestCompletions:
    def test_command(self, offered: Any) -> None:
        assert offered("") == ["--help", "--version", *commands()]
        assert offered("me") == ["metadata"]

    @pytest.mark.parametrize("name", list(commands()))
    def test_flags_of_each_command(self, offered: Any, name: str) -> None:
        flags = {
            flag
            for action in commands()[name]._actions
            for flag in action.option_strings
            if flag.startswith("--")
        }
        assert set(offered(name, "--")) == flags

    @pytest.mark.parametrize(
        ("words", "values"),
        [
            (("token", "--source", ""), ["imds", "arc"]),
            (("token", "--source", "a"), ["arc"]),
            (("token", "--source=a"), ["--source=arc"]),
            (("token", "-o", "he"), ["header"]),
            (("events", "--approve", "s"), ["shared"]),
            (("events", "--exec", "x", "--approve", "--fol"), ["--follow"]),
            (("cache", "s"), ["show"]),
            (("doctor", "--explain", "AADSTS90002"), ["AADSTS90002", "AADSTS900382"][:1]),
            (("doctor", "--check", "II00"), [f"II00{n}" for n in ["1", "2", "3", "4", "5", "6"]]),
            (("rest", "P"), ["PUT", "POST", "PATCH"]),
            (("completion", "z"), ["zsh"]),
            (("secret", "--cloud", "AzureU"), ["AzureUSGovernmentCloud"]),
            (("emulator", "--profile", "ar"), ["arc"]),
            (("token", "https://v"), ["https://vault.azure.net"]),
            (("token", "--scope", "https://v"), ["https://vault.azure.net/.default"]),
            (("no-such-command", "to"), ["token"]),
        ],
    )
    def test_values_of_arguments(
        self, offered: Any, words: tuple[str, ...], values: list[str]
    ) -> None:
        assert offered(*words) == values

    @pytest.mark.skipif(sys.platform == "win32", reason="argcomplete uses bash to complete files")
    def test_files_and_directories(
        self, offered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "some").touch()
        (tmp_path / "somewhere").mkdir()
        assert set(offered("serve", "--secret-file", "so")) == {"some", "somewhere/"}
        assert offered("serve", "--unix", "somew") == ["somewhere/"]
        assert offered("token", "--cache", "so") == ["somewhere/"]
        assert offered("attested", "--verify=some") == ["--verify=some", "--verify=somewhere/"]
        assert offered("token", "--client-id", "so") == []

    @pytest.mark.skipif(sys.platform == "win32", reason="argcomplete uses bash to complete files")
    def test_exec_completes_a_program_and_then_files(
        self, offered: Any, tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "imds-notes").touch()
        (program / "imds-notes").touch(mode=0o644)
        assert offered("exec", "--", "imds-") == ["imds-identity"]
        assert offered("exec", "--source", "arc", "--", "env", "imds-") == ["imds-notes"]
        assert offered("exec", "--", "./imds-") == ["./imds-notes"]
        assert offered("exec", "ls", "--so") == []

    def test_used_and_exclusive_flags_are_not_offered(self, offered: Any) -> None:
        flags = offered("token", "--client-id", "x", "--source", "arc", "--")
        assert not {"--object-id", "--resource-id", "--client-id", "--source"} & set(flags)
        assert "--resource" not in offered("token", "https://vault.azure.net", "--")
        assert "--allow-resource" in offered("serve", "--allow-resource", "x", "--")


class TestCachedValues:
    def test_identities_and_resources_with_cached_tokens(
        self, offered: Any, shared: SharedCache
    ) -> None:
        assert offered("token", "--client-id", "") == [CLIENT]
        assert offered("token", "--resource-id", "/") == [RESOURCE_ID]
        assert offered("token", "--object-id", "") == []
        assert "https://one.example" in offered("token", "")

    def test_completion_creates_no_directory(
        self, offered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
        assert offered("token", "--client-id", "") == []
        assert list(tmp_path.iterdir()) == []

    def test_no_token_is_offered(self, offered: Any, shared: SharedCache) -> None:
        for name in commands():
            for last in ("", "--", "s", "s3"):
                assert "s3cret" not in "".join(offered(name, last))

    def test_value_with_shell_syntax_is_not_offered(
        self, offered: Any, shared: SharedCache
    ) -> None:
        for hostile in ("$(reboot)", "a b", "\x1b[2J", "`x`", "a\nb", "größe", "a;b", "'"):
            key = KEY._replace(selector="client_id", identity=hostile)
            shared.write(Record(key, new_token(SYSTEM_CLOCK)))
        assert offered("token", "--client-id", "") == [CLIENT]


def test_missing_extra_is_reported(monkeypatch: pytest.MonkeyPatch, run_cli: Any) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    status, out, err = run_cli("completion", "bash")
    assert (status, out) == (1, "")
    assert "pip install 'imds-identity[completion]'" in err


def test_other_commands_do_not_import_argcomplete() -> None:
    script = "import sys; from imds_identity import cli; cli.main(['cache', 'show'])"
    script += "; sys.exit('argcomplete' in sys.modules)"
    subprocess.check_output([sys.executable, "-c", script])


def test_powershell_completions_are_written_to_a_file(tmp_path: Path, run_cli: Any) -> None:
    status, script, _ = run_cli("completion", "powershell")
    assert status == 0
    assert "Register-ArgumentCompleter -Native -CommandName imds-identity" in script
    output = tmp_path / "output"
    variables = {
        **completion_variables("imds-identity token --so"),
        "_ARGCOMPLETE_SHELL": "powershell",
    }
    subprocess.check_output(
        [sys.executable, "-m", "imds_identity"],
        env={**os.environ, **variables, "_ARGCOMPLETE_STDOUT_FILENAME": str(output)},
    )
    assert output.read_text() == "--source "


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of an ``imds-identity`` program, added to PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "imds-identity"
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m imds_identity "$@"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="requires a shell in a terminal")
@pytest.mark.usefixtures("program")
class TestShells:
    @pytest.fixture(params=["bash", "zsh"])
    def terminal(
        self, request: pytest.FixtureRequest, tmp_path: Path, program: Path
    ) -> Iterator[Terminal]:
        shell = required_shell(request.param)
        script = tmp_path / "completion"
        content = subprocess.check_output([program / "imds-identity", "completion", request.param])
        script.write_bytes(content)
        start = {
            "bash": ["bash", "--noprofile", "--norc", "-i"],
            "zsh": ["zsh", "-f", "-i"],
        }[request.param]
        terminal = Terminal([shell, *start[1:]], tmp_path)
        try:
            if request.param == "zsh":
                terminal.type("autoload -Uz compinit && compinit -D -u\n")
            terminal.type(f"source {script}; cd {tmp_path}; echo rea''dy\n")
            terminal.wait_for("ready")
            yield terminal
        finally:
            terminal.close()

    @pytest.mark.parametrize(
        ("typed", "becomes"),
        [
            ("imds-identity tok", "imds-identity token "),
            ("imds-identity token --sou", "imds-identity token --source "),
            ("imds-identity token --source a", "imds-identity token --source arc "),
            ("imds-identity token --output=j", "imds-identity token --output=json "),
            ("imds-identity token https://v", "imds-identity token https://vault.azure.net "),
            ("imds-identity serve --secret-file compl", "--secret-file completion "),
            ("imds-identity exec -- imds-ident", "exec -- imds-identity "),
            ("true 'a b' | imds-identity token --sou", "imds-identity token --source "),
            ("IMDS_IDENTITY_CACHE=off imds-identity tok", "imds-identity token "),
        ],
    )
    def test_tab_completes_the_word(self, terminal: Terminal, typed: str, becomes: str) -> None:
        terminal.type(f"{typed}\t")
        terminal.wait_for(becomes)

    def test_fish_shows_descriptions(self, program: Path, tmp_path: Path) -> None:
        fish = required_shell("fish")

        def offered(line: str) -> list[str]:
            script = f"imds-identity completion fish | source; complete -C '{line}'"
            command = [fish, "--no-config", "-c", script]
            done = subprocess.run(
                command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
            )
            return done.stdout.splitlines()

        (tmp_path / "secret-one").touch()
        assert offered("imds-identity toke") == ["token\tprint a managed identity's token"]
        sources = offered("imds-identity token --source ")
        assert [each.partition("\t")[0] for each in sources] == ["arc", "imds"]
        assert offered("imds-identity serve --secret-file secr") == ["secret-one"]
        assert "imds-identity" in "".join(offered("imds-identity exec -- imds-ident"))


def required_shell(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


class Terminal:
    """A shell in its own terminal, and its output so far."""

    def __init__(self, command: list[str], home: Path) -> None:
        import pty

        self._terminal, inner = pty.openpty()
        bare = {"HOME": str(home), "PATH": os.environ["PATH"], "PS1": "% ", "TERM": "dumb"}
        self._shell = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=bare, start_new_session=True
        )
        os.close(inner)
        self._output = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while text not in self._output:
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, self._output
            self._output += os.read(self._terminal, 4096).decode(errors="replace")

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._terminal)

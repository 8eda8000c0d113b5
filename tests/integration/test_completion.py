"""What shells offer at a Tab: asked of the command, and of the shells themselves."""

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
from support import KEY, token_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Offered = "Callable[..., list[str]]"
CLIENT = "11111111-2222-3333-4444-555555555555"
RESOURCE_ID = "/subscriptions/s/resourcegroups/g/providers/x/y/one"
LONGEST = 20.0


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The words that are offered for the last of some."""
    monkeypatch.setattr(ExclusiveCompletionFinder, "_init_debug_stream", lambda _: None)

    def offer(*words: str) -> list[str]:
        line = shlex.join(["imds-identity", *words[:-1]]) + f" {words[-1]}"
        answer = io.StringIO()
        with monkeypatch.context() as asked:
            for name, value in asking(line).items():
                asked.setenv(name, value)
            asked.setattr("argcomplete.finders.open", lambda *_: answer, raising=False)
            with pytest.raises(SystemExit) as end:
                cli.main([])
        assert end.value.code == 0
        return answer.getvalue().rstrip(" ").splitlines()

    return offer


def asking(line: str) -> dict[str, str]:
    """What argcomplete's scripts say of a line at whose end somebody presses Tab."""
    return {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": "answer",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedCache:
    """What this user's processes share, by default."""
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    machine = SharedCache(Directory.at(str(tmp_path / "cache")), SYSTEM_CLOCK)
    for selector, identity in (("client_id", CLIENT), ("resource_id", RESOURCE_ID)):
        key = KEY._replace(selector=selector, identity=identity, resource="https://one.example")
        machine.write(Record(key, token_now(SYSTEM_CLOCK, "s3cret")))
    return machine


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command's parser, by its name."""
    found = {}
    for name in subparsers(cli._parser([])).choices:
        found[name] = subparsers(cli._parser([name])).choices[name]
    return found


def subparsers(parser: argparse.ArgumentParser) -> Any:
    [action] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return action


class TestWhatIsOffered:
    def test_a_command(self, offered: Any) -> None:
        assert offered("") == ["--help", "--version", *commands()]
        assert offered("me") == ["metadata"]

    @pytest.mark.parametrize("name", list(commands()))
    def test_each_flag_that_a_command_takes(self, offered: Any, name: str) -> None:
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
            (("rest", "P"), ["PUT", "POST", "PATCH"]),
            (("completion", "z"), ["zsh"]),
            (("secret", "--cloud", "AzureU"), ["AzureUSGovernmentCloud"]),
            (("emulator", "--profile", "ar"), ["arc"]),
            (("token", "https://v"), ["https://vault.azure.net"]),
            (("token", "--scope", "https://v"), ["https://vault.azure.net/.default"]),
            (("no-such-command", "to"), ["token"]),
        ],
    )
    def test_the_values_that_an_argument_takes(
        self, offered: Any, words: tuple[str, ...], values: list[str]
    ) -> None:
        assert offered(*words) == values

    @pytest.mark.skipif(sys.platform == "win32", reason="argcomplete asks bash for files")
    def test_files_and_directories_where_the_argument_is_one(
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

    @pytest.mark.skipif(sys.platform == "win32", reason="argcomplete asks bash for files")
    def test_what_exec_runs_is_a_program_and_then_files(
        self, offered: Any, tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "imds-notes").touch()
        (program / "imds-notes").touch(mode=0o644)
        assert offered("exec", "--", "imds-") == ["imds-identity"]
        assert offered("exec", "--source", "arc", "--", "env", "imds-") == ["imds-notes"]
        assert offered("exec", "--", "./imds-") == ["./imds-notes"]
        assert offered("exec", "ls", "--so") == []

    def test_what_was_given_or_excludes_another_is_not_offered_again(self, offered: Any) -> None:
        after = offered("token", "--client-id", "x", "--source", "arc", "--")
        assert not {"--object-id", "--resource-id", "--client-id", "--source"} & set(after)
        assert "--resource" not in offered("token", "https://vault.azure.net", "--")
        assert "--allow-resource" in offered("serve", "--allow-resource", "x", "--")


class TestWhatThisMachineKnows:
    def test_identities_and_resources_that_have_tokens(
        self, offered: Any, shared: SharedCache
    ) -> None:
        assert offered("token", "--client-id", "") == [CLIENT]
        assert offered("token", "--resource-id", "/") == [RESOURCE_ID]
        assert offered("token", "--object-id", "") == []
        assert "https://one.example" in offered("token", "")

    def test_a_look_makes_no_directory(
        self, offered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
        assert offered("token", "--client-id", "") == []
        assert list(tmp_path.iterdir()) == []

    def test_no_token_is_told(self, offered: Any, shared: SharedCache) -> None:
        for name in commands():
            for last in ("", "--", "s", "s3"):
                assert "s3cret" not in "".join(offered(name, last))

    def test_what_is_no_word_of_a_shell_is_not_offered(
        self, offered: Any, shared: SharedCache
    ) -> None:
        for hostile in ("$(reboot)", "a b", "\x1b[2J", "`x`", "a\nb", "größe", "a;b", "'"):
            key = KEY._replace(selector="client_id", identity=hostile)
            shared.write(Record(key, token_now(SYSTEM_CLOCK)))
        assert offered("token", "--client-id", "") == [CLIENT]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, ran: Any) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    status, out, err = ran("completion", "bash")
    assert (status, out) == (1, "")
    assert "pip install 'imds-identity[completion]'" in err


def test_who_wants_no_completion_loads_nothing_for_it() -> None:
    script = "import sys; from imds_identity import cli; cli.main(['manual'])"
    script += "; sys.exit('argcomplete' in sys.modules)"
    subprocess.check_output([sys.executable, "-c", script])


def test_powershell_is_answered_in_a_file(tmp_path: Path, ran: Any) -> None:
    status, script, _ = ran("completion", "powershell")
    assert status == 0
    assert "Register-ArgumentCompleter -Native -CommandName imds-identity" in script
    answer = tmp_path / "answer"
    variables = {**asking("imds-identity token --so"), "_ARGCOMPLETE_SHELL": "powershell"}
    subprocess.check_output(
        [sys.executable, "-m", "imds_identity"],
        env={**os.environ, **variables, "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)},
    )
    assert answer.read_text() == "--source "


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an ``imds-identity`` that a shell finds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "imds-identity"
    file.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m imds_identity "$@"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="a shell in a terminal")
@pytest.mark.usefixtures("program")
class TestShells:
    @pytest.fixture(params=["bash", "zsh"])
    def terminal(
        self, request: pytest.FixtureRequest, tmp_path: Path, program: Path
    ) -> Iterator[Terminal]:
        shell = needed(request.param)
        script = tmp_path / "completion"
        done = subprocess.check_output([program / "imds-identity", "completion", request.param])
        script.write_bytes(done)
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
    def test_a_tab_ends_the_word(self, terminal: Terminal, typed: str, becomes: str) -> None:
        terminal.type(f"{typed}\t")
        terminal.wait_for(becomes)

    def test_fish_offers_words_with_their_meaning(self, program: Path, tmp_path: Path) -> None:
        fish = needed("fish")

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


def needed(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


class Terminal:
    """A shell at a terminal of its own, and what it has written so far."""

    def __init__(self, command: list[str], home: Path) -> None:
        import pty

        self._terminal, inner = pty.openpty()
        bare = {"HOME": str(home), "PATH": os.environ["PATH"], "PS1": "% ", "TERM": "dumb"}
        self._shell = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=bare, start_new_session=True
        )
        os.close(inner)
        self._written = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + LONGEST
        while text not in self._written:
            ready, _, _ = select.select([self._terminal], [], [], end - time.monotonic())
            assert ready, self._written
            self._written += os.read(self._terminal, 4096).decode(errors="replace")

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._terminal)

"""What shells offer at a Tab: asked of the command, and of the shells themselves."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity import cli
from imds_identity._machine.directory import Directory
from imds_identity._machine.entries import Entry
from imds_identity._machine.store import MachineCache
from imds_identity._runtime.clock import SYSTEM_CLOCK
from imds_identity.cli.shell.candidates import awaited
from support import KEY, token_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Offered = "Callable[..., list[str]]"
CLIENT = "11111111-2222-3333-4444-555555555555"
RESOURCE_ID = "/subscriptions/s/resourcegroups/g/providers/x/y/one"
LONGEST = 20.0


@pytest.fixture
def offered(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The words that are offered for the last of some."""

    def offer(*words: str) -> list[str]:
        assert cli.main(["completion", "fish", "--", *words]) == 0
        return [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]

    return offer


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachineCache:
    """What this user's processes share, by default."""
    monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
    machine = MachineCache(Directory.named(str(tmp_path / "cache")), SYSTEM_CLOCK)
    for selector, identity in (("client_id", CLIENT), ("resource_id", RESOURCE_ID)):
        key = KEY._replace(selector=selector, identity=identity, resource="https://one.example")
        machine.write(Entry(key, token_now(SYSTEM_CLOCK, "s3cret")))
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
        assert offered("") == list(commands())
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
            (("cache", ""), ["show", "clear"]),
            (("rest", "P"), ["PUT", "POST", "PATCH"]),
            (("completion", ""), ["bash", "zsh", "fish"]),
            (("secret", "--cloud", "AzureU"), ["AzureUSGovernmentCloud"]),
            (("emulator", "--profile", "ar"), ["arc"]),
            (("token", "https://v"), ["https://vault.azure.net"]),
            (("token", "--scope", "https://v"), ["https://vault.azure.net/.default"]),
            (("no-such-command", ""), list(commands())),
        ],
    )
    def test_the_values_that_an_argument_takes(
        self, offered: Any, words: tuple[str, ...], values: list[str]
    ) -> None:
        assert offered(*words) == values

    @pytest.mark.parametrize(
        ("words", "own"),
        [
            (("serve", "--secret-file", "/e"), ":files"),
            (("serve", "--unix", ""), ":files"),
            (("attested", "--verify=x"), ":files"),
            (("token", "--cache", ""), ":directories"),
            (("exec", "--", ""), ":commands"),
            (("exec", "--source", "arc", "--", "env", "-i"), ":files"),
            (("exec", "ls", "--so"), ":files"),
        ],
    )
    def test_what_the_shell_knows_better_is_left_to_it(
        self, offered: Any, words: tuple[str, ...], own: str
    ) -> None:
        assert offered(*words) == [own]

    def test_what_was_given_or_excludes_another_is_not_offered_again(self, offered: Any) -> None:
        after = offered("token", "--client-id", "x", "--source", "arc", "--")
        assert not {"--object-id", "--resource-id", "--client-id", "--source"} & set(after)
        assert "--resource" not in offered("token", "https://vault.azure.net", "--")
        assert "--allow-resource" in offered("serve", "--allow-resource", "x", "--")

    @given(words=st.lists(st.text(max_size=12), min_size=1, max_size=6), name=st.sampled_from(
        ["token", "exec", "events", "emulator", "completion", "cache"]
    ))  # fmt: skip
    def test_whatever_is_typed_has_an_answer(self, words: list[str], name: str) -> None:
        awaited(cli._parser([name]), [name, *words])


class TestWhatThisMachineKnows:
    def test_identities_and_resources_that_have_tokens(
        self, offered: Any, shared: MachineCache
    ) -> None:
        assert offered("token", "--client-id", "") == [CLIENT]
        assert offered("token", "--resource-id", "/") == [RESOURCE_ID]
        assert offered("token", "--object-id", "") == []
        assert offered("token", "")[0] == "https://one.example"

    def test_a_look_makes_no_directory(
        self, offered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMDS_IDENTITY_CACHE", str(tmp_path / "cache"))
        assert offered("token", "--client-id", "") == []
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_no_token_is_told(
        self, shared: MachineCache, capsys: pytest.CaptureFixture[str], shell: str
    ) -> None:
        for name in commands():
            for last in ("", "--", "s", "s3"):
                words = [f"imds-identity {name} {last}", last] if shell == "bash" else [name, last]
                assert cli.main(["completion", shell, "--", *words]) == 0
        assert "s3cret" not in capsys.readouterr().out

    def test_what_is_no_word_of_a_shell_is_not_offered(
        self, offered: Any, shared: MachineCache
    ) -> None:
        for hostile in ("$(reboot)", "a b", "\x1b[2J", "`x`", "a\nb", "größe", "a;b", "'"):
            key = KEY._replace(selector="client_id", identity=hostile)
            shared.write(Entry(key, token_now(SYSTEM_CLOCK)))
        assert offered("token", "--client-id", "") == [CLIENT]


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
        assert offered("imds-identity token --source ") == ["arc", "imds"]
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

"""Arguments of Windows batch files."""

from __future__ import annotations

import pytest

from imds_identity._endpoint.batch_files import batch_command_line

SHELL = r"C:\Windows\System32\cmd.exe"


def quoted(*arguments: str) -> str:
    line = batch_command_line(SHELL, r"C:\az.cmd", arguments)
    head = rf'"{SHELL}" /d /e:on /v:off /c "C:\az.cmd '
    assert line.startswith(head)
    assert line.endswith('"')
    return line[len(head) : -1]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("account", "account"),
        ("--url", "--url"),
        (r"C:\a\b.txt", r"C:\a\b.txt"),
        ("a b", '"a b"'),
        ("", '""'),
        ("a&calc", '"a&calc"'),
        ("[?a>b]|c^d", '"[?a>b]|c^d"'),
        ("a=b,c;d", '"a=b,c;d"'),
        ('say "hi"', '"say ""hi"""'),
        ('a\\"b', '"a\\\\""b"'),
        ("a dir\\", '"a dir\\\\"'),
        ("tail\\", '"tail\\\\"'),
        ("%PATH%", '"%%cd:~,%PATH%%cd:~,%"'),
        ("grüße", '"grüße"'),
    ],
)
def test_argument_is_quoted_and_runs_no_command(argument: str, expected: str) -> None:
    assert quoted(argument) == expected


def test_arguments_keep_their_order() -> None:
    assert quoted("rest", "--query", "a b") == 'rest --query "a b"'


@pytest.mark.parametrize("argument", ["a\nb", "a\r", "\0"])
def test_line_break_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="cannot contain a line break"):
        batch_command_line(SHELL, "x.cmd", [argument])

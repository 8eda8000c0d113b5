"""How arguments reach a batch file of Windows unharmed."""

from __future__ import annotations

import pytest

from imds_identity._endpoint.batch import batch_line

SHELL = r"C:\Windows\System32\cmd.exe"


def handed(*arguments: str) -> str:
    line = batch_line(SHELL, r"C:\az.cmd", arguments)
    head = rf'"{SHELL}" /d /e:on /v:off /c "C:\az.cmd '
    assert line.startswith(head)
    assert line.endswith('"')
    return line[len(head) : -1]


@pytest.mark.parametrize(
    ("argument", "written"),
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
def test_each_is_one_argument_and_no_command(argument: str, written: str) -> None:
    assert handed(argument) == written


def test_they_stand_one_after_the_other() -> None:
    assert handed("rest", "--query", "a b") == 'rest --query "a b"'


@pytest.mark.parametrize("argument", ["a\nb", "a\r", "\0"])
def test_the_end_of_a_line_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="cannot have the end of a line"):
        batch_line(SHELL, "x.cmd", [argument])

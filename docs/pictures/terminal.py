"""Record commands in a terminal as an animated SVG.

    python docs/pictures/terminal.py docs/images/demo.svg 'imds-identity demo'

The SVG shows the real output of the commands. Pauses are limited to a second. Viewers without
animation show the whole session.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS, ROWS = 80, 40
PROMPT = "$ "
TYPING_SECONDS = 0.06
LONGEST_PAUSE_SECONDS = 1.0
LONGEST_COMMAND_SECONDS = 120.0
CELL, LINE, MARGIN, BAR = 9.64, 22, 24, 36
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_STYLE = """
    .screen { fill: #ffffff; stroke: #d0d7de; }
    .bar { fill: #f6f8fa; }
    .dot { fill: #d0d7de; }
    text { fill: #1f2328; font: 16px ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono',
      monospace; white-space: pre; }
    tspan { animation: seen 1ms backwards; }
    .typed { fill: #0a5c8c; font-weight: 600; }
    @keyframes seen { from { fill-opacity: 0; } to { fill-opacity: 1; } }
    @media (prefers-color-scheme: dark) {
      .screen { fill: #0d1117; stroke: #30363d; }
      .bar { fill: #161b22; }
      .dot { fill: #484f58; }
      text { fill: #e6edf3; }
      .typed { fill: #79c4f2; }
    }
    @media (prefers-reduced-motion: reduce) { tspan { animation: none; } }
"""


class Piece(NamedTuple):
    """Text that appeared at one time.

    Attributes:
        seconds: time since the session started.
        text: the text.
        typed: whether it is input, not output.
    """

    seconds: float
    text: str
    typed: bool


def main() -> None:
    """Record the commands and write the SVG."""
    parser = argparse.ArgumentParser(description="Record commands in a terminal as an SVG.")
    parser.add_argument("file", type=Path)
    parser.add_argument("commands", nargs="+")
    args = parser.parse_args()
    args.file.write_text(svg(list(with_short_pauses(record(args.commands)))), encoding="utf-8")


def record(commands: list[str]) -> Iterator[Piece]:
    """Type the commands into a shell, and yield what the terminal shows."""
    process, terminal = pty.fork()
    if not process:
        os.execvpe("sh", ["sh"], {**os.environ, "PS1": PROMPT, "TERM": "dumb"})  # noqa: S606, S607
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    start = time.monotonic()
    try:
        yield from _until_prompt(terminal, start)
        for command in commands:
            for letter in command:
                time.sleep(TYPING_SECONDS)
                os.write(terminal, letter.encode())
                os.read(terminal, 1024)  # the echo
                yield Piece(time.monotonic() - start, letter, typed=True)
            os.write(terminal, b"\n")
            yield from _until_prompt(terminal, start)
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def _until_prompt(terminal: int, start: float) -> Iterator[Piece]:
    output = ""
    end = time.monotonic() + LONGEST_COMMAND_SECONDS
    while not output.endswith(PROMPT):
        if not select.select([terminal], [], [], end - time.monotonic())[0]:
            raise TimeoutError(f"no prompt after: {output[-200:]}")
        more = _ESCAPE.sub("", os.read(terminal, 65536).decode()).replace("\r", "")
        output += more
        yield Piece(time.monotonic() - start, more, typed=False)


def with_short_pauses(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Limit each pause to `LONGEST_PAUSE_SECONDS`."""
    now = before = 0.0
    for piece in pieces:
        now += min(piece.seconds - before, LONGEST_PAUSE_SECONDS)
        before = piece.seconds
        yield piece._replace(seconds=now)


def svg(pieces: list[Piece]) -> str:
    """Return the session as an SVG document."""
    lines = [f"{line}</text>" for line in _lines(pieces)]
    width = round(2 * MARGIN + COLUMNS * CELL)
    height = BAR + MARGIN + LINE * len(lines)
    dots = "".join(f'<circle class="dot" cx="{x}" cy="18" r="6"/>' for x in (24, 44, 64))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
  <title>A recorded terminal</title>
  <style>{_STYLE}  </style>
  <rect class="screen" x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10"/>
  <path class="bar" d="M2 {BAR}V11a9 9 0 0 1 9-9H{width - 11}a9 9 0 0 1 9 9V{BAR}z"/>{dots}
{chr(10).join(lines)}
</svg>
"""


def _lines(pieces: list[Piece]) -> list[str]:
    lines = [_opened(0)]
    for piece in pieces:
        for number, text in enumerate(piece.text.split("\n")):
            if number:
                lines.append(_opened(len(lines)))
            if text:
                kind = ' class="typed"' if piece.typed else ""
                delay = f' style="animation-delay:{piece.seconds:.2f}s"'
                lines[-1] += f"<tspan{kind}{delay}>{escape(text)}</tspan>"
    return lines


def _opened(number: int) -> str:
    return f'  <text x="{MARGIN}" y="{BAR + MARGIN + LINE * number}">'


if __name__ == "__main__":
    main()

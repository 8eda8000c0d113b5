"""The chart of the figures: two bars for each, in units of azure-identity's value.

Blue and orange are from the color-blind-safe palette of Okabe and Ito. The background follows the
reader's light or dark theme.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from table import bars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figures
    from table import Bar

_WIDTH, _TOP, _STEP = 800, 84, 50
_LEFT, _FULL = 300, 300  # the bars' left end, and the length of azure-identity's
_STYLE = """
    .paper { fill: #ffffff; stroke: #d0d7de; }
    text { fill: #1f2328; font-size: 16px; }
    .title { font-size: 19px; font-weight: 600; }
    .value { font-size: 15px; }
    .theirs { fill: #e69f00; }
    .ours { fill: #0072b2; }
    .rule { stroke: #d0d7de; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117; stroke: #30363d; }
      text { fill: #e6edf3; }
      .ours { fill: #56b4e9; }
      .rule { stroke: #30363d; }
    }
"""


def svg(figures: Figures) -> str:
    """Return the chart as an SVG document; raise KeyError if a figure was not measured."""
    all_bars = list(bars(figures))
    height = _TOP + _STEP * len(all_bars) + 12
    lines = [line for number, bar in enumerate(all_bars) for line in _bar(number, bar)]
    return "\n".join([_head(height), *_legend(), *lines, "</svg>\n"])


def _head(height: int) -> str:
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" \
aria-labelledby="title" \
font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif">
  <title id="title">imds-identity compared with azure-identity</title>
  <style>{_STYLE}  </style>
  <rect class="paper" x="1" y="1" width="{_WIDTH - 2}" height="{height - 2}" rx="10"/>"""


def _legend() -> Iterator[str]:
    yield '  <text class="title" x="24" y="36">Lower is better</text>'
    for side, name, x in (("theirs", "azure-identity", 300), ("ours", "imds-identity", 450)):
        yield f'  <rect class="{side}" x="{x}" y="22" width="16" height="16" rx="2"/>'
        yield f'  <text x="{x + 23}" y="36">{name}</text>'
    yield f'  <path class="rule" d="M24 58H{_WIDTH - 24}"/>'


def _bar(number: int, bar: Bar) -> Iterator[str]:
    y = _TOP + _STEP * number
    yield f'  <text x="{_LEFT - 16}" y="{y + 16}" text-anchor="end">{escape(bar.label)}</text>'
    for side, value, share, top in (
        ("theirs", bar.theirs, 1.0, y - 6),
        ("ours", bar.ours, bar.pair.ratio, y + 12),
    ):
        length = max(2.0, _FULL * share)
        value_text = f'x="{_LEFT + length + 8:.1f}" y="{top + 13}">{escape(value)}'
        yield f'  <rect class="{side}" x="{_LEFT}" y="{top}" width="{length:.1f}" height="15"/>'
        yield f'  <text class="value" {value_text}</text>'

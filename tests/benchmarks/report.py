"""One line a figure."""

from __future__ import annotations


def compare(what: str, ours: float, theirs: float, unit: str, aim: float, beside: str) -> None:
    """Print both sides, their ratio and whether it is within ``aim``."""
    ratio = ours / theirs
    verdict = "ok" if ratio <= aim else "MISSED"
    print(
        f"{what:44} ours {ours:9.3f} {unit}   {beside} {theirs:9.3f} {unit}   "
        f"ratio {ratio:.4f} (aim {aim:.4f}) {verdict}"
    )

"""``imds-identity doctor``: why this process gets no token, in a screen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .._platform.environment import Environment
from .arguments import add_source_of_tokens, add_verbosity, settings_of
from .output import complain

if TYPE_CHECKING:
    import argparse

    from ..doctor import Diagnosis, Finding

_FOUND = 1
_COULD_NOT_RUN = 2
_COLOURS = {"failure": "31", "warning": "33", "ok": "32", "unknown": "36"}
_WIDTH = 9
_LONGEST_SEEN = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = (
        "Finds out why this process gets no token. It changes nothing, sends at most eight "
        "requests and shows no secret. Exit status: 0 nothing found, 1 a failure found, 2 it "
        "could not run."
    )
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--resource", help="what the token is for (default: Azure's management)")
    wanted.add_argument("--scope", help="the same, as a scope")
    add_source_of_tokens(parser)
    parser.add_argument("--json", action="store_true", help="write all findings as JSON")
    parser.add_argument(
        "--short-ids", action="store_true", help="show no more than the beginning of each GUID"
    )
    parser.add_argument(
        "--all", action="store_true", help="show skipped checks, too, and all that was seen"
    )
    parser.add_argument("--explain", metavar="ID", help="explain a check (II021) or an AADSTS code")
    add_verbosity(parser)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; the exit status.

    Raises:
        ValueError: for a setting that is not understood.
    """
    if args.explain:
        from ..doctor.catalog import explain_check

        print(explain_check(args.explain))
        return 0
    try:
        diagnosis = _diagnosis(args)
    except OSError as error:
        complain(f"the doctor could not run: {error.strerror or error}")
        return _COULD_NOT_RUN
    if args.short_ids:
        diagnosis = diagnosis.shortened()
    if args.json:
        import json

        print(json.dumps(diagnosis.document(), indent=2))
    else:
        print("\n".join(_screen(diagnosis, every=args.all)))
    return _FOUND if diagnosis.status == "failure" else 0


def _diagnosis(args: argparse.Namespace) -> Diagnosis:
    from ..doctor import diagnose

    return diagnose(
        args.resource,
        scope=args.scope,
        **settings_of(args),
    )


def _screen(diagnosis: Diagnosis, *, every: bool) -> list[str]:
    """The cause, what mends it, and a line of evidence for each check."""
    cause = diagnosis.cause
    lines = [_coloured(diagnosis.status, _sentence(diagnosis.headline))]
    if cause is not None and cause.remedy:
        lines += [f"  fix: {cause.remedy}", f"  more: imds-identity doctor --explain {cause.id}"]
    if diagnosis.status == "ok":
        lines.append("  a resource still answers 401 or 403? imds-identity doctor --explain II062")
    lines.append("")
    for finding in diagnosis.findings:
        if every or finding.status != "skipped":
            lines += _shown(finding, is_cause=finding is cause, whole=every)
    return lines


def _shown(finding: Finding, *, is_cause: bool, whole: bool) -> list[str]:
    mark = _coloured(finding.status, f"{finding.status:{_WIDTH}}")
    faulty = finding.status in ("failure", "warning")
    seen = finding.seen if faulty or whole else _cut(finding.seen)
    lines = [f"{mark}{finding.id} {finding.title}: {seen}"]
    if faulty and not is_cause:
        told = [] if finding.meaning in finding.seen else [finding.meaning]
        told += [f"fix: {finding.remedy}"] if finding.remedy not in finding.seen else []
        lines += [f"{'':{_WIDTH}}{line}" for line in told]
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SEEN else text[:_LONGEST_SEEN].rpartition(" ")[0] + " …"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _coloured(status: str, text: str) -> str:
    colour = _COLOURS.get(status)
    plain = os.name == "nt" or not sys.stdout.isatty() or Environment()["NO_COLOR"]
    if colour is None or plain:
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"

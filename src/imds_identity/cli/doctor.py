"""``imds-identity doctor``: diagnose managed identity problems."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .._platform.environment import Environment
from .arguments import add_token_options, credential_options
from .output import print_error, to_json

if TYPE_CHECKING:
    import argparse

    from ..doctor import Diagnosis, Finding

_FAILURE_FOUND = 1
_COULD_NOT_RUN = 2
_COLORS = {"failure": "31", "warning": "33", "ok": "32", "unknown": "36"}
_WIDTH = 9
_MAX_SEEN = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Diagnoses why this process gets no token. It changes nothing, sends at most eight "
        "requests and prints no secret. Exit status: 0 if no check fails, 1 if a check fails, 2 "
        "if the doctor cannot run."
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--resource", help="the token's resource (default: Azure Resource Manager)")
    target.add_argument("--scope", help="the token's scope, instead of --resource")
    add_token_options(parser)
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")
    parser.add_argument("--short-ids", action="store_true", help="abbreviate GUIDs")
    parser.add_argument(
        "--all", action="store_true", help="also show skipped checks, and all evidence"
    )
    parser.add_argument("--explain", metavar="ID", help="explain a check (II021) or an AADSTS code")


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; return the exit status."""
    if args.explain:
        from ..doctor._catalog.checks import explain_check

        print(explain_check(args.explain))
        return 0
    from ..doctor import diagnose

    try:
        diagnosis = diagnose(args.resource, scope=args.scope, **credential_options(args))
    except OSError as error:
        print_error(f"the doctor cannot run: {error.strerror or error}")
        return _COULD_NOT_RUN
    if args.short_ids:
        diagnosis = diagnosis.shortened()
    if args.json:
        print(to_json(diagnosis.document()))
    else:
        print("\n".join(_report(diagnosis, show_all=args.all)))
    return _FAILURE_FOUND if diagnosis.status == "failure" else 0


def _report(diagnosis: Diagnosis, *, show_all: bool) -> list[str]:
    """Return the cause, its fix, and a line of evidence for each check."""
    cause = diagnosis.cause
    lines = [_colored(diagnosis.status, _sentence(diagnosis.headline))]
    if cause is not None and cause.remedy:
        lines += [f"  fix: {cause.remedy}", f"  more: imds-identity doctor --explain {cause.id}"]
    if diagnosis.status == "ok":
        lines.append("  if a resource returns 401 or 403: imds-identity doctor --explain II062")
    lines.append("")
    for finding in diagnosis.findings:
        if show_all or finding.status != "skipped":
            lines += _finding_lines(finding, is_cause=finding is cause, show_all=show_all)
    return lines


def _finding_lines(finding: Finding, *, is_cause: bool, show_all: bool) -> list[str]:
    mark = _colored(finding.status, f"{finding.status:{_WIDTH}}")
    needs_action = finding.status in ("failure", "warning")
    seen = finding.seen if needs_action or show_all else _shortened(finding.seen)
    lines = [f"{mark}{finding.id} {finding.title}: {seen}"]
    if needs_action and not is_cause:
        details = [] if finding.meaning in finding.seen else [finding.meaning]
        details += [f"fix: {finding.remedy}"] if finding.remedy not in finding.seen else []
        lines += [f"{'':{_WIDTH}}{line}" for line in details]
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SEEN else text[:_MAX_SEEN].rpartition(" ")[0] + " …"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _colored(status: str, text: str) -> str:
    color = _COLORS.get(status)
    plain = os.name == "nt" or not sys.stdout.isatty() or Environment()["NO_COLOR"]
    if color is None or plain:
        return text
    return f"\x1b[{color}m{text}\x1b[0m"

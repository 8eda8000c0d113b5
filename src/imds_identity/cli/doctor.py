"""``imds-identity doctor``: diagnose managed identity problems."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from .._core.failure import escape
from .._platform.environment import Environment
from .arguments import (
    add_application,
    add_output,
    add_token_options,
    application_options,
    credential_options,
)
from .output import is_broken_pipe, print_error, to_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

    from ..doctor import Diagnosis, Finding

_FAILURE_FOUND = 1
_FAILS = {"failure": ("failure",), "warning": ("failure", "warning")}
_DEFAULT_SCOPE = "/.default"
_COULD_NOT_RUN = 2
_COLORS = {"failure": "31", "warning": "33", "ok": "32", "unknown": "36"}
_FAULTS = {"failure", "warning"}
_HEALTHY = {"ok", "unknown"}
_SHOWN = {False: _FAULTS, True: _FAULTS | _HEALTHY | {"skipped"}}
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
    target.add_argument(
        "resource_or_scope",
        nargs="?",
        metavar="RESOURCE_OR_SCOPE",
        help="the token's resource or scope, as for `imds-identity token`",
    )
    target.add_argument("--resource", help="the token's resource (default: Azure Resource Manager)")
    target.add_argument("--scope", help="the token's scope, instead of --resource")
    add_token_options(parser)
    add_application(parser)
    add_output(
        parser, ("text", "json"), "text", "text (default), or json: all findings as one object"
    )
    parser.add_argument("--json", action="store_true", help="the same as -o json")
    parser.add_argument(
        "--network",
        action="store_true",
        help="also connect to Microsoft Entra ID, Azure Resource Manager and the services of the "
        "Azure Arc agent, through the proxy if there is one; no request is sent there",
    )
    stored = parser.add_mutually_exclusive_group()
    stored.add_argument(
        "--save", metavar="FILE", help="also write the observed facts to a file, for --facts"
    )
    stored.add_argument(
        "--facts",
        metavar="FILE",
        help="diagnose the machine whose facts --save wrote; the flags that select an identity, a "
        "resource or a source are those of that machine",
    )
    parser.add_argument("--short-ids", action="store_true", help="abbreviate GUIDs")
    parser.add_argument(
        "--all", action="store_true", help="also show skipped checks, and all evidence"
    )
    parser.add_argument("--explain", metavar="ID", help="explain a check (II021) or an AADSTS code")
    parser.add_argument("--list", action="store_true", help="list all checks, one line for each")
    parser.add_argument(
        "--check", metavar="ID", help="show one check only, such as II024; the exit status is its"
    )
    parser.add_argument(
        "--fail-on",
        choices=("failure", "warning"),
        default="failure",
        metavar="STATUS",
        help="the least serious status with exit status 1: failure (default) or warning",
    )


def report_usage_error(words: list[str], message: str) -> None:
    """Print wrong usage as JSON if the command line requests JSON."""
    outputs = {"json", "--json", "-ojson", "-o=json", "--output=json"}
    if outputs.intersection(words):
        _print_error_document(message)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis, or the list or explanation of checks; return the exit status."""
    from ..doctor._catalog.lookup import check_number

    try:
        if args.list or args.explain:
            return _print_catalog(args)
        number = check_number(args.check) if args.check else ""
        return _report_diagnosis(args, _diagnose(args), number)
    except (OSError, ValueError) as error:
        if is_broken_pipe(error):
            raise
        return _could_not_run(error, as_json=_is_json(args))


def _print_catalog(args: argparse.Namespace) -> int:
    from ..doctor._catalog.lookup import describe, explain_check, list_checks

    if _is_json(args):
        print(to_json(describe(args.explain or "")))
    else:
        print(explain_check(args.explain) if args.explain else "\n".join(list_checks()))
    return 0


def _is_json(args: argparse.Namespace) -> bool:
    return bool(args.json or args.output == "json")


def _diagnose(args: argparse.Namespace) -> Diagnosis:
    from ..doctor._facts.gather import collect_facts
    from ..doctor._facts.saved import load_facts, save_facts
    from ..doctor.diagnosis import run_checks

    if args.facts:
        return run_checks(load_facts(args.facts))
    resource, scope = _target(args)
    options = {**credential_options(args), **application_options(args)}
    facts = collect_facts(resource, scope=scope, network=args.network, **options)
    if args.save:
        save_facts(facts, args.save)
    return run_checks(facts)


def _report_diagnosis(args: argparse.Namespace, diagnosis: Diagnosis, number: str) -> int:
    diagnosis = diagnosis.only(number) if number else diagnosis
    if args.short_ids:
        diagnosis = diagnosis.shortened()
    if _is_json(args):
        print(to_json(diagnosis.document()))
    else:
        shown = _SHOWN[args.all or bool(number)] | (_HEALTHY if args.verbose else set())
        print("\n".join(_report(diagnosis, shown)))
    return _FAILURE_FOUND if diagnosis.status in _FAILS[args.fail_on] else 0


def _target(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the resource and the scope; at most one of them is not None."""
    either: str | None = args.resource_or_scope
    if either is not None and either.endswith(_DEFAULT_SCOPE):
        return None, either
    return args.resource if either is None else either, args.scope


def _could_not_run(error: OSError | ValueError, *, as_json: bool) -> int:
    text = getattr(error, "strerror", None) or str(error)
    if name := getattr(error, "filename", None):
        text = f"{escape(str(name))}: {text}"
    if as_json:
        _print_error_document(text)
    print_error(f"the doctor cannot run: {text}")
    return _COULD_NOT_RUN


def _print_error_document(text: str) -> None:
    from ..doctor import SCHEMA

    print(to_json({"schema": SCHEMA, "status": "error", "error": text}))


def _report(diagnosis: Diagnosis, shown: Collection[str]) -> list[str]:
    """Return the cause, its fix, a line of evidence for each shown check, and a summary."""
    cause = diagnosis.cause
    lines = [_colored(diagnosis.status, _sentence(diagnosis.headline))]
    if cause is not None and cause.remedy:
        lines += [f"  fix: {cause.remedy}", f"  more: imds-identity doctor --explain {cause.id}"]
    if diagnosis.status == "ok":
        lines.append("  if a resource returns 401 or 403: imds-identity doctor --explain II062")
    lines.append("")
    visible = [finding for finding in diagnosis.findings if finding.status in shown]
    is_short = not set(shown) >= _HEALTHY
    groups = [("", visible)] if is_short else _by_category(visible)
    for category, findings in groups:
        lines += [f"{category}: {_numbers(findings)}"] if category else []
        for finding in findings:
            is_cause, show_all = finding is cause, "skipped" in shown
            lines += _finding_lines(finding, is_cause=is_cause, show_all=show_all)
    applying = [finding for finding in diagnosis.findings if finding.status != "skipped"]
    return lines + ([f"checks: {_numbers(applying)} (-v lists them)"] if is_short else [])


def _by_category(findings: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """Return the findings of each category; the categories are in the order of the IDs."""
    names = dict.fromkeys(each.category for each in sorted(findings, key=lambda each: each.id))
    return [(name, [each for each in findings if each.category == name]) for name in names]


def _numbers(findings: Sequence[Finding]) -> str:
    statuses: list[str] = [finding.status for finding in findings]
    counts = ((statuses.count(status), status) for status in (*_COLORS, "skipped"))
    return ", ".join(
        f"{number} {status}{'s' if number > 1 and status in _FAULTS else ''}"
        for number, status in counts
        if number
    )


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
    # A URL, a path or a variable's name keeps its case.
    return f"{text[:1].upper() if text.partition(' ')[0].isalpha() else text[:1]}{text[1:]}."


def _colored(status: str, text: str) -> str:
    color = _COLORS.get(status)
    environment = Environment()
    plain = os.name == "nt" or environment["NO_COLOR"] or environment["TERM"] == "dumb"
    if color is None or plain or not sys.stdout.isatty():
        return text
    return f"\x1b[{color}m{text}\x1b[0m"

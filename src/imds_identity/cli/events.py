"""``imds-identity events``: what awaits this machine, and what to do about it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from .arguments import add_output, filled
from .output import complain
from .service import add_service, client_of, reported, write_json, write_rows

if TYPE_CHECKING:
    import argparse

    from ..metadata import Change, MetadataClient, ScheduledEvent, Watcher
    from ..metadata._events.events import ApprovalRule
    from ..metadata._events.hook import Hook

_OWN, _SHARED = "own", "shared"
_MARGIN = 5.0
_HEADER = ("EVENT", "TYPE", "STATUS", "NOT BEFORE", "RESOURCES", "DESCRIPTION")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.description = (
        "Prints this machine's scheduled events, or each change of them as it comes, or approves "
        "one."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--follow", action="store_true", help="go on, and print each change once")
    what.add_argument("--start", metavar="EVENT_ID", help="approve this event, so that it starts")
    parser.add_argument(
        "--exec",
        dest="command_line",
        type=filled,
        metavar="COMMAND",
        help="with --follow: run this for each change; it gets the event as JSON on standard input "
        "and in variables, IMDS_EVENT_CHANGE, _ID, _TYPE, _STATUS, _NOT_BEFORE, _RESOURCES, "
        "_SOURCE, _DURATION and _DESCRIPTION",
    )
    parser.add_argument(
        "--approve",
        nargs="?",
        const=_OWN,
        choices=(_OWN, _SHARED),
        help="with --exec: approve an event when its command has ended with 0 in time; own "
        "(default): only if it hits no other machine; shared: even then",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=_MARGIN,
        metavar="SECONDS",
        help="with --approve: how long before an event starts that is too late (default: 5)",
    )
    parser.add_argument(
        "--state",
        type=filled,
        metavar="FILE",
        help="with --follow: keep there what was told, for a restart",
    )
    parser.add_argument("--all", action="store_true", help="other machines' events, too")
    add_output(
        parser,
        ("json", "text", "table"),
        "text",
        "text (default): a line for each, with tabs; json: as the service says it, with --follow a "
        "line for each change; table: for people",
    )
    add_service(parser)


def run(args: argparse.Namespace) -> int:
    """Do what ``args`` say; the exit status.

    Raises:
        ValueError: if they make no sense.
    """
    for needs, given, flags in (
        (args.follow, args.command_line or args.state, "--exec and --state go with --follow"),
        (args.command_line, args.approve, "--approve goes with --exec"),
    ):
        if given and not needs:
            raise ValueError(flags)
    if not args.margin >= 0:
        raise ValueError(f"--margin takes seconds, not {args.margin}")
    client = client_of(args)
    if args.start is not None:
        return reported(lambda: _start(client, args.start))
    return reported(lambda: _follow(client, args) if args.follow else _list(client, args))


def _start(client: MetadataClient, event_id: str) -> int:
    client.start(event_id)
    return 0


def _list(client: MetadataClient, args: argparse.Namespace) -> int:
    from ..metadata._events.events import own_names

    names = frozenset() if args.all else own_names(client.compute())
    document = client.scheduled_events()
    events = [each for each in document.events if not names or each.concerns(*names)]
    if args.output == "json":
        write_json({**document.raw, "Events": [dict(each.raw) for each in events]})
    else:
        rows = [_row(event) for event in events]
        is_table = args.output == "table"
        write_rows([_HEADER, *rows] if is_table else rows, table=is_table)
    return 0


def _follow(client: MetadataClient, args: argparse.Namespace) -> int:
    watcher = client.watch(every_machine=args.all, state_file=args.state)
    hook = _hook(client, watcher, args)
    is_ill = False
    while True:
        if (seconds := watcher.seconds_left()) > 0:
            watcher.clock.sleep(seconds)
        watcher.ask()
        if is_ill != (watcher.failure is not None):
            is_ill = not is_ill
            complain(watcher.failure or "the service answers again")
        while (change := watcher.next_ready()) is not None:
            _tell(change, args.output)
            if hook is None:
                watcher.done(change)
            else:
                hook.take(change)


def _hook(client: MetadataClient, watcher: Watcher, args: argparse.Namespace) -> Hook | None:
    if args.command_line is None:
        return None
    from ..metadata._events.hook import Hook

    return Hook(args.command_line, client, watcher, _rule(args), complain)


def _rule(args: argparse.Namespace) -> ApprovalRule | None:
    if args.approve is None:
        return None
    from ..metadata._events.events import ApprovalRule

    return ApprovalRule(args.margin, shared=args.approve == _SHARED)


def _tell(change: Change, output: str) -> None:
    from ..metadata._events.hook import as_document

    if output == "json":
        sys.stdout.write(json.dumps(as_document(change)) + "\n")
    else:
        write_rows([(change.kind, *_row(change.event))], table=output == "table")
    sys.stdout.flush()


def _row(event: ScheduledEvent) -> tuple[str, ...]:
    moment = event.not_before.isoformat() if event.not_before else ""
    fields = (event.event_id, event.event_type, event.status, moment)
    return (*(each or "" for each in fields), ",".join(event.resources), event.description or "")

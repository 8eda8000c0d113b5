"""``imds-identity events``: print, follow or approve scheduled events."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

from .arguments import add_output, not_empty
from .metadata_options import (
    add_service,
    exit_status_of,
    metadata_client,
    metadata_error_lines,
    write_rows,
)
from .output import print_error, print_lines, print_notice, to_json

if TYPE_CHECKING:
    import argparse

    from ..metadata import Change, MetadataClient, MetadataError, ScheduledEvent, Watcher
    from ..metadata._events.command_hook import CommandHook

_OWN, _SHARED = "own", "shared"
_MARGIN_SECONDS = 5.0
_HOOK_SECONDS = 600.0
_MAX_HOOK_SECONDS = 7 * 86400.0
_HEADER = ("EVENT", "TYPE", "STATUS", "NOT BEFORE", "RESOURCES", "DESCRIPTION")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.description = (
        "Prints this machine's scheduled events, follows their changes, or approves an event."
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--follow", action="store_true", help="keep running and print each change once"
    )
    action.add_argument(
        "--start", metavar="EVENT_ID", help="approve this event, so that it starts now"
    )
    parser.add_argument(
        "--exec",
        dest="command_line",
        type=not_empty,
        metavar="COMMAND",
        help="with --follow: run this command for each change, with the event as JSON on standard "
        "input and in the variables IMDS_EVENT_CHANGE, _ID, _TYPE, _STATUS, _NOT_BEFORE, "
        "_RESOURCES, _SOURCE, _DURATION and _DESCRIPTION",
    )
    parser.add_argument(
        "--hook-timeout",
        type=float,
        default=_HOOK_SECONDS,
        metavar="SECONDS",
        help="with --exec: stop a command that runs longer (default: 600)",
    )
    parser.add_argument(
        "--approve",
        nargs="?",
        const=_OWN,
        choices=(_OWN, _SHARED),
        help="with --exec: approve an event if its command exits with 0 in time; own (default): "
        "only if the event affects no other machine; shared: even if it does",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=_MARGIN_SECONDS,
        metavar="SECONDS",
        help="with --approve: do not approve an event in its last SECONDS before it starts "
        "(default: 5)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="with --exec: print what would be run and approved, and do neither; --state is "
        "ignored",
    )
    parser.add_argument(
        "--state",
        type=not_empty,
        metavar="FILE",
        help="with --follow: record the printed changes in this file, so that a restart does not "
        "repeat them",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="this machine's name in events; may be repeated (default: from the instance document)",
    )
    parser.add_argument("--all", action="store_true", help="include events of other machines")
    add_output(
        parser,
        ("json", "text", "table"),
        "text",
        "text (default): a line for each event, with tabs; json: as returned by the service, with "
        "--follow a line for each change; table: aligned columns",
    )
    add_service(parser)


def run(args: argparse.Namespace) -> int:
    """Print, follow or approve events; return the exit status."""
    if (args.command_line or args.state) and not args.follow:
        raise ValueError("--exec and --state require --follow")
    if (args.approve or args.dry_run) and not args.command_line:
        raise ValueError("--approve and --dry-run require --exec")
    if not args.margin >= 0:
        raise ValueError(f"--margin takes a number of seconds, not {args.margin}")
    if not 0 < args.hook_timeout <= _MAX_HOOK_SECONDS:
        raise ValueError(
            f"--hook-timeout takes a number of seconds, at most {_MAX_HOOK_SECONDS:.0f}, not "
            f"{args.hook_timeout}"
        )
    client = metadata_client(args)
    if args.start is not None:
        return exit_status_of(args, lambda: _start(client, args.start))
    return exit_status_of(args, lambda: (_follow if args.follow else _list)(client, args))


def _start(client: MetadataClient, event_id: str) -> int:
    client.start(event_id)
    return 0


def _list(client: MetadataClient, args: argparse.Namespace) -> int:
    from ..metadata import MalformedMetadataError
    from ..metadata._events.events import lower_names, own_names

    names = lower_names(args.name)
    if not args.all:
        names = names or own_names(client.compute())
    if not names and not args.all:
        raise MalformedMetadataError(
            "The instance document does not contain this machine's name, so its events are "
            "unknown. Try again in a few seconds; --all prints the events of every machine."
        )
    document = client.scheduled_events()
    events = [each for each in document.events if args.all or each.concerns(*names)]
    if args.output == "json":
        print(to_json({**document.raw, "Events": [dict(each.raw) for each in events]}))
    elif not events:
        others = len(document.events)
        print_notice(
            "no scheduled events"
            + (f" for this machine; --all prints {others} of other machines" if others else "")
        )
    else:
        rows = [_row(event) for event in events]
        is_table = args.output == "table"
        write_rows([_HEADER, *rows] if is_table else rows, table=is_table)
    return 0


def _follow(client: MetadataClient, args: argparse.Namespace) -> int:
    state_file = None if args.dry_run else args.state
    watcher = client.watch(every_machine=args.all, names=args.name, state_file=state_file)
    hook = _hook(client, watcher, args)
    if hook is None:
        return _poll(watcher, hook, args)
    signal.signal(signal.SIGTERM, _exit)
    try:
        return _poll(watcher, hook, args)
    finally:
        hook.stop()


def _exit(*_: object) -> None:
    """Let ``finally`` clauses stop the running commands."""
    raise SystemExit(0)


def _poll(watcher: Watcher, hook: CommandHook | None, args: argparse.Namespace) -> int:
    is_failing = False
    while True:
        if (seconds := watcher.seconds_left()) > 0:
            watcher.clock.sleep(seconds)
        watcher.ask()
        if is_failing != (watcher.failure is not None):
            is_failing = not is_failing
            _print_failing(watcher.failure)
        while (change := watcher.next_ready()) is not None:
            _print_change(change, args.output)
            if hook is None:
                watcher.done(change)
            else:
                hook.submit(change)


def _print_failing(error: MetadataError | None) -> None:
    if error is None:
        print_notice("the service responds again")
    else:
        print_lines(metadata_error_lines(error, verbose=False))


def _hook(client: MetadataClient, watcher: Watcher, args: argparse.Namespace) -> CommandHook | None:
    if args.command_line is None:
        return None
    from ..metadata._events.command_hook import CommandHook
    from ..metadata._events.events import ApprovalPolicy

    policy = ApprovalPolicy(args.margin, shared=args.approve == _SHARED) if args.approve else None
    return CommandHook(
        args.command_line,
        client.start,
        watcher,
        policy,
        print_error,
        args.hook_timeout,
        dry_run=args.dry_run,
    )


def _print_change(change: Change, output: str) -> None:
    from ..metadata._events.command_hook import change_to_dict

    if output == "json":
        sys.stdout.write(json.dumps(change_to_dict(change)) + "\n")
    else:
        write_rows([(change.kind, *_row(change.event))], table=output == "table")
    sys.stdout.flush()


def _row(event: ScheduledEvent) -> tuple[str, ...]:
    moment = event.not_before.isoformat() if event.not_before else ""
    fields = (event.event_id, event.event_type, event.status, moment)
    return (*(each or "" for each in fields), ",".join(event.resources), event.description or "")

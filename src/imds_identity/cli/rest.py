"""``imds-identity rest``: calls of Azure's services from scripts, as ``az rest`` makes them.

https://learn.microsoft.com/rest/api/azure/
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._api.hosts import add_cloud, cloud_of, origin_of, resource_for
from ._api.operation import Operation
from ._api.paging import all_pages
from ._api.sending import Call, Problem, caller_for, words_of
from .arguments import add_source_of_tokens, add_verbosity
from .output import FAILED, complain

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from http.client import HTTPResponse

    from ._api.sending import Caller

_EXAMPLES = """\
examples:
  imds-identity rest GET '/subscriptions?api-version=2022-12-01' --paginate
  imds-identity rest PUT URL --body @group.json --wait
"""
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([\x20-\x7e]*)")
_OURS = ("authorization", "host", "content-length", "transfer-encoding", "connection")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "Calls a service of Azure with a managed identity's token and writes what it answers. The "
        "token goes to the URL's host by https, and to no other. Exit status: 0; 1 where the "
        "service refuses, 2 for wrong usage."
    )
    parser.add_argument(
        "method", type=str.upper, choices=_METHODS, metavar="METHOD", help="%(choices)s"
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="an https URL, or a path of Resource Manager such as "
        "/subscriptions?api-version=2022-12-01",
    )
    parser.add_argument("--body", help="what to send; @FILE sends a file, @- standard input")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a header field; may be repeated",
    )
    parser.add_argument(
        "--resource", help="what the host's token is for, where its name does not tell"
    )
    parser.add_argument(
        "--paginate", action="store_true", help="follow nextLink, and write one list of all values"
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait for the end of the operation that this begins, and write its outcome",
    )
    add_cloud(parser)
    add_source_of_tokens(parser)
    add_verbosity(parser)


def run(args: argparse.Namespace) -> int:
    """Make the call that ``args`` ask for; the exit status.

    Raises:
        ValueError: if they ask for nonsense.
    """
    if args.paginate and args.method != "GET":
        raise ValueError("--paginate is for GET")
    call, resource = _call(args)
    try:
        return _made(caller_for(args, resource), call, args)
    except Problem as problem:
        return complain(problem)


def _call(args: argparse.Namespace) -> tuple[Call, str]:
    """The call, and whose token it needs."""
    url = args.url
    if url.startswith("/") and not url.startswith("//"):
        url = cloud_of(args).resource_manager + url
    host = urlsplit(origin_of(url)).hostname or ""
    resource = args.resource or resource_for(host)
    if resource is None:
        raise ValueError(
            f"{host} is no well-known host of Azure: say with --resource whose token it may see"
        )
    headers = dict(_header(each) for each in args.header)
    body = _body(args.body)
    if body is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    return Call(args.method, url, body, headers), resource


def _made(caller: Caller, call: Call, args: argparse.Namespace) -> int:
    if args.paginate:
        values = all_pages(caller, call)
        sys.stdout.write(json.dumps({"value": values}, indent=2) + "\n")
        return 0
    answer = caller.call(call)
    if args.wait:
        answer = Operation(caller, call, _progress()).wait(answer)
    with answer:
        if answer.status >= 400:
            complain(words_of(answer))
            return FAILED
        _write(answer)
    return 0


def _progress() -> Callable[[str], None]:
    if not sys.stderr.isatty():
        return lambda _line: None
    return lambda line: print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _write(answer: HTTPResponse) -> None:
    """Write the body; JSON so that people can read it, too."""
    if "json" not in answer.headers.get("Content-Type", ""):
        sys.stdout.flush()
        shutil.copyfileobj(answer, sys.stdout.buffer)
        return
    text = answer.read()
    try:
        shown = json.dumps(json.loads(text), indent=2) + "\n"
    except (ValueError, RecursionError):
        sys.stdout.buffer.write(text)
    else:
        sys.stdout.write(shown)


def _header(given: str) -> tuple[str, str]:
    field = _FIELD.fullmatch(given)
    if field is None or field[1].lower() in _OURS:
        raise ValueError(f"--header {given!r} is not NAME=VALUE of a field that may be set")
    return field[1], field[2]


def _body(given: str | None) -> bytes | None:
    if given is None or not given.startswith("@"):
        return given.encode() if given is not None else None
    if given == "@-":
        return sys.stdin.buffer.read()
    try:
        with open(given[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"--body: {given[1:]}: {error.strerror}") from None

"""``imds-identity rest``: call an Azure REST API, like ``az rest``.

https://learn.microsoft.com/rest/api/azure/
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from .._core.failure import escape
from ._api.client import ApiError, api_client, error_text, print_api_error
from ._api.hosts import cloud_getter, origin_url, service_of
from ._api.operation import LongRunningOperation
from ._api.paging import all_pages
from ._api.sender import ApiRequest
from .arguments import add_application, add_cloud, add_output, add_token_options
from .output import read_input, to_json, write_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from ._api.client import ApiClient
    from ._api.sender import ApiResponse

_EXAMPLES = """\
examples:
  imds-identity rest GET '/subscriptions?api-version=2022-12-01' --paginate
  imds-identity rest PUT URL --body @group.json --wait
  imds-identity rest --method get --url URL --headers NAME=VALUE --query 'value[].id' -o text
"""
_METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([\x20-\x7e]*)")
_RESERVED_HEADERS = ("authorization", "host", "content-length", "transfer-encoding", "connection")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "Calls an Azure REST API with a managed identity's token and prints the response. The "
        "token is sent only to the host of the URL, and only over https."
    )
    parser.usage = "imds-identity rest [FLAGS] METHOD URL"
    parser.add_argument(
        "method", nargs="?", type=str.upper, choices=_METHODS, metavar="METHOD", help="%(choices)s"
    )
    parser.add_argument(
        "url",
        nargs="?",
        metavar="URL",
        help="an https URL, or a path of Azure Resource Manager such as "
        "/subscriptions?api-version=2022-12-01",
    )
    parser.add_argument(
        "--method",
        "-m",
        dest="az_method",
        type=str.upper,
        choices=_METHODS,
        metavar="METHOD",
        help="the method, as for az rest (default: GET)",
    )
    parser.add_argument("--url", "--uri", "-u", dest="az_url", help="the URL, as for az rest")
    parser.add_argument("--body", "-b", help="the body; @FILE reads a file, @- standard input")
    parser.add_argument(
        "--header",
        "--headers",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="headers; may be repeated",
    )
    parser.add_argument(
        "--url-parameters",
        "--uri-parameters",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="parameters to add to the URL; may be repeated",
    )
    parser.add_argument(
        "--query",
        metavar="JMESPATH",
        help="print only this part of the JSON response; requires: pip install jmespath",
    )
    add_output(parser, ("json", "text"), "json", "json (default), or text: strings without quotes")
    parser.add_argument(
        "--resource", help="the token's resource, if it cannot be inferred from the host"
    )
    parser.add_argument(
        "--paginate", action="store_true", help="follow nextLink and print the values of all pages"
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait until the long-running operation has ended, and print its result",
    )
    add_cloud(parser, "a path and of the hosts that may get a token")
    add_token_options(parser)
    add_application(parser)


def run(args: argparse.Namespace) -> int:
    """Send the request; return the exit status."""
    method, url = args.method or args.az_method or "GET", args.url or args.az_url
    if url is None:
        raise ValueError(
            "a URL is missing: imds-identity rest GET '/subscriptions?api-version=2022-12-01'"
        )
    if args.paginate and method != "GET":
        raise ValueError("--paginate requires GET")
    args.query = _compiled(args.query)
    request, resource = _request(args, method, _with_parameters(url, args.url_parameters))
    try:
        return _send(api_client(args, resource), request, args)
    except ApiError as error:
        return print_api_error(args, error)


def _compiled(query: str | None) -> Callable[[Any], Any] | None:
    """Return a function that selects a part of a JSON document."""
    if query is None:
        return None
    try:
        return import_module("jmespath").compile(query).search  # type: ignore[no-any-return]
    except ModuleNotFoundError:
        raise ValueError("--query requires: pip install jmespath; or pipe to jq") from None


def _with_parameters(url: str, parameters: list[str]) -> str:
    if invalid := [each for each in parameters if "=" not in each]:
        raise ValueError(f"--url-parameters: {invalid[0]!r} is not NAME=VALUE")
    pairs = urlencode([each.partition("=")[::2] for each in parameters])
    return url + ("&" if "?" in url else "?") + pairs if pairs else url


def _request(args: argparse.Namespace, method: str, url: str) -> tuple[ApiRequest, str]:
    """Return the request and the resource of its token."""
    cloud = cloud_getter(args)
    if url.startswith("/") and not url.startswith("//"):
        url = cloud().resource_manager + url
    host = urlsplit(origin_url(url)).hostname or ""
    service = service_of(host, cloud)
    resource = args.resource or (service and service.resource)
    if not resource:
        raise ValueError(f"cannot infer the resource of {host}; pass --resource")
    headers = dict(_header(each) for each in args.header)
    body = _body(args.body)
    if body is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    return ApiRequest(method, url, body, headers), resource


def _send(client: ApiClient, request: ApiRequest, args: argparse.Namespace) -> int:
    if args.paginate:
        _print({"value": all_pages(client, request)}, args)
        return 0
    response = client.request(request)
    if args.wait:
        response = LongRunningOperation(client, request, _progress()).wait(response)
    if response.status >= 400:
        raise ApiError(error_text(response))
    _write(response, args)
    return 0


def _progress() -> Callable[[str], None]:
    if not sys.stderr.isatty():
        return lambda _line: None
    return lambda line: print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _write(response: ApiResponse, args: argparse.Namespace) -> None:
    """Print the body; JSON is indented."""
    if "json" in response.headers.get("Content-Type", ""):
        with suppress(ValueError, RecursionError):
            _print(json.loads(response.body), args)
            return
    write_bytes(response.body)


def _print(document: Any, args: argparse.Namespace) -> None:
    value = args.query(document) if args.query else document
    items = value if isinstance(value, list) and args.output == "text" else [value]
    for each in items:
        # A terminal could execute escape sequences of a string without quotes.
        is_plain = args.output == "text" and isinstance(each, str)
        print(escape(each) if is_plain else to_json(each))


def _header(argument: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(argument)
    if match is None:
        raise ValueError(f"--header {argument!r} is not NAME=VALUE")
    if match[1].lower() in _RESERVED_HEADERS:
        raise ValueError(f"--header cannot set {match[1]}")
    return match[1], match[2]


def _body(argument: str | None) -> bytes | None:
    if argument is None or not argument.startswith("@"):
        return argument.encode() if argument is not None else None
    if argument == "@-":
        return read_input()
    try:
        with open(argument[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"--body: {argument[1:]}: {error.strerror}") from None

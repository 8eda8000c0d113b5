"""Calls of Azure's services with a token that never leaves the host it is for.

On the standard library, which is loaded in a third of the time that ``requests`` takes: a script
that wants a secret does not want to wait.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from ..._azure_core.bearer import claims_of
from ..._core.failure import Failure, sanitize
from ..._core.scope import resource_of
from ..._platform.clock import SYSTEM_CLOCK
from ..._platform.environment import Environment
from ..._version import __version__
from ..arguments import client_of, doctor_command
from .hosts import origin_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from http.client import HTTPResponse

    from ..._platform.clock import Clock

SECONDS = 60.0
_MOST_TRIES = 6
_LONGEST_PAUSE = 300.0
_PAUSE = 2.0
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = ("GET", "HEAD")
_LONGEST_WORDS = 64 * 1024


class Problem(Exception):
    """What was asked for is not to be had; the message says why."""


class Call:
    """A request to a service. It is no tuple, because error trackers look into those.

    Args:
        method: the HTTP method.
        url: where to.
        body: sent with it, if there is one.
        headers: header fields besides the usual ones.
    """

    def __init__(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.method = method
        self.url = url
        self.body = body
        self.headers = dict(headers or {})

    def at(self, url: str) -> Call:
        """The same request to another URL."""
        return Call(self.method, url, self.body, self.headers)


class Caller:
    """Calls one service.

    Args:
        send: sends a request with a token and gives the answer, whatever its status.
        token: the service's token; takes the claims challenge that refused the one before.
        clock: times the pauses.
    """

    def __init__(
        self,
        send: Callable[[Call, str], HTTPResponse],
        token: Callable[[str | None], str],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._send = send
        self._token = token
        self.clock = clock

    def call(self, call: Call) -> HTTPResponse:
        """The answer to a request, which is repeated as often as the service asks for that.

        Raises:
            ValueError: if its URL is none that may see a token.
            Problem: if there is no answer, or it leads to another host.
        """
        for attempt in range(_MOST_TRIES):
            answer = self._followed(call)
            pause = retry_after(answer, self.clock)
            pause = _PAUSE * 2**attempt if pause is None else pause
            is_last = attempt == _MOST_TRIES - 1 or pause > _LONGEST_PAUSE
            if is_last or not _is_passing(call.method, answer.status):
                break
            answer.close()
            self.clock.sleep(pause)
        return answer

    def _followed(self, call: Call) -> HTTPResponse:
        origin_of(call.url)
        for _ in range(_MOST_REDIRECTS):
            answer = self._authorized(call)
            if answer.status not in _REDIRECTS:
                return answer
            answer.close()
            url = led_to(call, answer.headers.get("Location", ""))
            if call.method not in _SAFE:
                raise Problem(f"the service redirects to {sanitize(url)}: make the call there")
            call = call.at(url)
        raise Problem("the service redirects again and again")

    def _authorized(self, call: Call) -> HTTPResponse:
        answer = self._sent(call, None)
        claims = claims_of(answer.status, dict(answer.headers.items()))
        if claims is None:
            return answer
        answer.close()
        return self._sent(call, claims)

    def _sent(self, call: Call, claims: str | None) -> HTTPResponse:
        try:
            token = self._token(claims)
        except Failure as failure:
            raise Problem(str(failure)) from None
        try:
            return self._send(call, token)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            words = str(getattr(reason, "strerror", None) or reason)
            problem = Problem(f"{origin_of(call.url)}: {sanitize(words) or type(error).__name__}")
        # Not inside the handler: an exception's context holds frames, and those hold the token.
        raise problem


def caller_for(args: argparse.Namespace, resource: str) -> Caller:
    """What calls with ``resource``'s token of the identity that the flags select.

    Raises:
        ValueError: for a flag that is not understood.
    """
    client = client_of(args)
    entry = client.entry(resource_of((resource,)))

    def token(claims: str | None) -> str:
        try:
            return client.token(entry, claims).value
        except Failure as failure:
            problem = Problem(f"{failure} What is the cause? {doctor_command(args, resource)}")
        raise problem

    return Caller(_sender(), token)


def retry_after(answer: HTTPResponse, clock: Clock) -> float | None:
    """Seconds for which the service asks to be left alone, if it does."""
    said = answer.headers.get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return float(said[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(said).timestamp() - clock.wall(), 0.0)
    except (ValueError, TypeError):
        return None


def words_of(answer: HTTPResponse) -> str:
    """What an error says, in one line."""
    text = answer.read(_LONGEST_WORDS)
    try:
        said = json.loads(text)["error"]
        told = f"{said['code']}: {said['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        told = text.decode("utf-8", "replace")
    return f"{answer.status} {sanitize(answer.reason or '')}: {sanitize(told)}"


def json_of(answer: HTTPResponse) -> Any:
    """The JSON that an answer is; None if it is something else."""
    try:
        return json.loads(answer.read())
    except (ValueError, RecursionError):
        return None


def led_to(call: Call, link: str) -> str:
    """The URL that a service leads to in its answer to ``call``.

    Raises:
        Problem: if it is on another host: the token is not for that.
    """
    try:
        url = urljoin(call.url, link)
        if origin_of(url) == origin_of(call.url):
            return url
    except ValueError:
        pass
    raise Problem(f"the service leads to {sanitize(link)}, which gets no token")


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Gives every answer to the caller: nothing raises, and nothing is followed."""

    def http_response(self, request: Any, response: Any) -> Any:  # noqa: ARG002 - urllib's names
        return response

    https_response = http_response


def _sender() -> Callable[[Call, str], HTTPResponse]:
    opener = urllib.request.build_opener(_AsItIs(), urllib.request.HTTPSHandler(context=_trusted()))

    def send(call: Call, token: str) -> HTTPResponse:
        headers = {
            "User-Agent": f"imds-identity/{__version__}",
            "Accept": "application/json",
            **call.headers,
            "Authorization": f"Bearer {token}",
        }
        request = urllib.request.Request(  # noqa: S310 - `origin_of` lets https pass only
            call.url, data=call.body, headers=headers, method=call.method
        )
        answer: HTTPResponse = opener.open(request, timeout=SECONDS)
        return answer

    return send


def _trusted() -> ssl.SSLContext:
    """A context of TLS that trusts whom ``requests`` trusts."""
    import os

    bundle = Environment()["REQUESTS_CA_BUNDLE"]
    if not bundle:
        import certifi

        bundle = certifi.where()
    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


def _is_passing(method: str, status: int) -> bool:
    """Whether the same request may do a little later."""
    return status == 429 or (status in (502, 503, 504) and method in _SAFE)

"""Calls of Azure's services with a token that never leaves the host it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import requests

from ..._core.failure import quote
from ..._runtime.clock import SYSTEM_CLOCK
from ...auth import ManagedIdentityAuth
from ...errors import ManagedIdentityError
from .hosts import origin_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from ..._runtime.clock import Clock

SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_MOST_TRIES = 6
_LONGEST_PAUSE = 300.0
_PAUSE = 2.0
_MOST_REDIRECTS = 5
_SAFE = ("GET", "HEAD")


class Problem(Exception):
    """What was asked for is not to be had; the message says why."""


class Caller:
    """Calls one service.

    Args:
        session: sends.
        auth: puts the token on each request.
        clock: times the pauses.
    """

    def __init__(
        self, session: requests.Session, auth: ManagedIdentityAuth, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._session = session
        self._auth = auth
        self.clock = clock

    def call(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        stream: bool = False,
    ) -> requests.Response:
        """The answer to a request, as often as the service asks for it to be repeated.

        Args:
            method: the HTTP method.
            url: where to.
            body: to be sent with it.
            headers: header fields besides the usual ones.
            stream: whether the answer's body is left to be read.

        Raises:
            ValueError: if ``url`` is none that may see a token.
            Problem: if there is no answer, or it leads to another host.
        """
        for attempt in range(_MOST_TRIES):
            answer = self._followed(method, url, body, headers, stream)
            is_last = attempt == _MOST_TRIES - 1
            if is_last or not _is_passing(method, answer.status_code):
                break
            pause = retry_after(answer, self.clock)
            if pause is None:
                pause = _PAUSE * 2**attempt
            if pause > _LONGEST_PAUSE:
                break
            answer.close()
            self.clock.sleep(pause)
        return answer

    def words(self, answer: requests.Response) -> str:
        """What an error says, in one line."""
        try:
            said = answer.json()["error"]
            told = f"{said['code']}: {said['message']}"
        except (ValueError, KeyError, TypeError, RecursionError):
            told = answer.text
        return f"{answer.status_code} {quote(answer.reason or '')}: {quote(told)}"

    def _followed(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        stream: bool,
    ) -> requests.Response:
        origin = origin_of(url)
        for _ in range(_MOST_REDIRECTS):
            answer = self._sent(method, url, body, headers, stream)
            if not answer.is_redirect:
                return answer
            answer.close()
            url = urljoin(url, answer.headers["Location"])
            if not _is_at(url, origin) or method not in _SAFE:
                raise Problem(f"the service redirects to {quote(url)}, which gets no token")
        raise Problem("the service redirects again and again")

    def _sent(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        stream: bool,
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                url,
                data=body,
                headers=dict(headers or {}),
                auth=self._auth,
                timeout=(_CONNECT_SECONDS, SECONDS),
                allow_redirects=False,
                stream=stream,
            )
        except ManagedIdentityError as error:
            raise Problem(str(error.message)) from None
        except requests.RequestException as error:
            raise Problem(f"{origin_of(url)}: {quote(str(error))}") from None


def caller_for(args: argparse.Namespace, resource: str) -> Caller:
    """What calls with ``resource``'s token of the identity that the flags select.

    Raises:
        ValueError: for a flag that is not understood.
    """
    settings: dict[str, Any] = {
        name: getattr(args, name)
        for name in (
            "client_id", "object_id", "resource_id", "source", "arc_tokens_directory", "cache",
        )
    }  # fmt: skip
    auth = ManagedIdentityAuth(resource.removesuffix("/.default") + "/.default", **settings)
    return Caller(requests.Session(), auth)


def retry_after(answer: requests.Response, clock: Clock) -> float | None:
    """Seconds for which the service asks to be left alone, if it does."""
    said = answer.headers.get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return float(said[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(parsedate_to_datetime(said).timestamp() - clock.wall(), 0.0)
    except (ValueError, TypeError):
        return None


def _is_at(url: str, origin: str) -> bool:
    try:
        return origin_of(url) == origin
    except ValueError:
        return False


def _is_passing(method: str, status: int) -> bool:
    """Whether the same request may do a little later."""
    return status == 429 or (status in (502, 503, 504) and method in _SAFE)

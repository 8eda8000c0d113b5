"""The session that MSAL sends with: bounded, tried again, and never led elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
import urllib3

from .._wire.bounded import BoundedSession, body_of
from .._wire.exchange import Dropped, TransportError

if TYPE_CHECKING:
    from .._runtime.clock import Clock
    from .._wire.exchange import Random

FETCH_SECONDS = 60.0
"""Seconds for all that MSAL sends to get one token."""
_REQUEST_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
_PAUSES = (0.5, 1.0, 2.0, 4.0)
_TRANSIENT = (429, 500, 502, 503, 504)


class MsalSession(BoundedSession):
    """A session for one fetch, which goes over the internet and so by the environment's proxies.

    Args:
        clock: times it, and sleeps between attempts.
        random: spreads the attempts.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        super().__init__(clock, proxies=True)
        self.headers["Accept-Encoding"] = "identity"
        self._clock = clock
        self._random = random
        self._ends = clock.now() + FETCH_SECONDS

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, again where that may help, until there is an answer.

        Raises:
            TransportError: if there is none.
            requests.RequestException: likewise.
            Malformed: if it is compressed or too large.
        """
        for shortest in _PAUSES:
            problem: Exception | None = None
            asked_for = 0.0
            try:
                answer = self._once(*args, **kwargs)
            except (TransportError, requests.ConnectionError) as error:
                problem = error
            else:
                if answer.status_code not in _TRANSIENT:
                    return answer
                asked_for = _seconds(answer.headers.get("retry-after", ""))
            pause = max(asked_for, shortest) * (1 + self._random() / 2)
            if self._clock.now() + pause >= self._ends:
                if problem is not None:
                    raise problem
                return answer
            self._clock.sleep(pause)
        return self._once(*args, **kwargs)

    def _once(self, *args: Any, **kwargs: Any) -> requests.Response:
        left = max(0.1, self._ends - self._clock.now())
        kwargs |= {"timeout": (_CONNECT_SECONDS, min(_REQUEST_SECONDS, left)), "stream": True}
        answer = super().request(*args, **kwargs)
        with answer:
            try:
                # Where requests looks for a body that it has read itself.
                answer._content = body_of(answer)
                answer.encoding = "utf-8"  # as JSON is, whatever the answer says
            except urllib3.exceptions.HTTPError:
                raise Dropped("the answer broke off") from None
        return answer


def _seconds(retry_after: str) -> float:
    return float(retry_after[:9]) if retry_after.isascii() and retry_after.isdigit() else 0.0

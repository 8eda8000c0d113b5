"""Every call into the package: watched while it lasts, and judged when it has ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from imds_identity import ManagedIdentityError

from . import tokens
from .event_log import shows_token, told
from .shared_state import steady

if TYPE_CHECKING:
    from .event_log import EventLog
    from .shared_state import SharedState
    from .tokens import IssuedToken
    from .watch import Watch

FOREIGN = "foreign exceptions"
SHOWN = "tokens shown in messages"
_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 30.0, 60.0, 100.0, 1000.0)


class Ask(NamedTuple):
    """What to ask a credential for.

    Attributes:
        face: what kind of credential, for the table.
        resource: what for.
        who: whose token it must be.
        claims: the challenge to meet, if there is one.
        since: a token that meets it was minted no earlier (`steady`).
    """

    face: str
    resource: str
    who: str
    claims: str | None = None
    since: float = float("-inf")


class Calls:
    """Calls into the package.

    Args:
        watch: looks for calls that hang.
        event_log: is told what breaks a rule.
        shared_state: tells what has been revoked.
        mine: exceptions that the process itself raises in the middle of a call.
    """

    def __init__(
        self,
        watch: Watch,
        event_log: EventLog,
        shared_state: SharedState,
        mine: tuple[type[BaseException], ...],
    ) -> None:
        self.watch = watch
        self.counts = watch.counts
        self._journal = event_log
        self._board = shared_state
        self._mine = mine
        self._never: list[float] = [0.0]

    def sync(
        self, credential: Any, ask: Ask, *, info: bool, main: bool = False
    ) -> IssuedToken | None:
        """Ask a sync credential; what its token says, or None if it gave none."""
        began, number = self._begin(ask, self._never)
        try:
            return self._judged(ask, began, _ask(credential, ask, info).token)
        except ManagedIdentityError as error:
            self._documented(error)
        except self._mine as error:
            if main:
                raise
            self.foreign(error)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            self.foreign(error)
        finally:
            self._end(number, began)
        return None

    async def asynchronous(
        self, credential: Any, ask: Ask, *, info: bool, held_up: list[float]
    ) -> IssuedToken | None:
        """Ask an async credential; only a cancellation comes out of it."""
        began, number = self._begin(ask, held_up)
        try:
            before = held_up[0]
            token = (await _ask(credential, ask, info)).token
            # Nobody knows when a token was handed out to a task whose loop did not run.
            return self._judged(ask, began, token, free=held_up[0] == before)
        except ManagedIdentityError as error:
            self._documented(error)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            self.foreign(error)
        finally:
            self._end(number, began)
        return None

    def challenge(self, ask: Ask, facts: IssuedToken | None) -> Ask | None:
        """The challenge that a resource answers this token with, if it was revoked."""
        revoked = self._board.revoked(ask.resource)
        if facts is None or facts.minted >= revoked:
            return None
        claims = _claims(revoked)
        self.counts["claims challenges"] += 1
        return ask._replace(claims=claims, since=revoked)

    def foreign(self, error: BaseException) -> None:
        """Note an exception that is in nobody's documentation."""
        self._journal.broken(FOREIGN, told(error))

    def check_words(self, text: str) -> None:
        """Note a message that shows a token."""
        if shows_token(text):
            self._journal.broken(SHOWN, text)

    def _begin(self, ask: Ask, held_up: list[float]) -> tuple[float, int]:
        self.counts[f"calls: {ask.face}" + (", with claims" if ask.claims else "")] += 1
        return steady(), self.watch.begin(f"{ask.face} {ask.resource} {ask.who}", held_up)

    def _end(self, number: int, began: float) -> None:
        self.watch.end(number)
        seconds = steady() - began
        bucket = next((limit for limit in _BUCKETS if seconds < limit), _BUCKETS[-1])
        self.counts[f"took: under {bucket:08.3f} s"] += 1

    def _judged(
        self, ask: Ask, began: float, token: Any, *, free: bool = True
    ) -> IssuedToken | None:
        moment = steady() if free and self.watch.undisturbed_since(began) else began
        try:
            facts = tokens.read(token)
        except (ValueError, AttributeError, TypeError):
            self._journal.broken(tokens.REFUSABLE, f"{ask.face}: {type(token).__name__}")
            return None
        self.counts["ended: with a token"] += 1
        fault = tokens.fault_of(facts, ask.resource, ask.who, moment, ask.since)
        if fault is not None:
            rule, detail = fault
            self._journal.broken(rule, f"{ask.face}, after {steady() - began:.2f} s: {detail}")
        return facts

    def _documented(self, error: ManagedIdentityError) -> None:
        self.counts[f"ended: {type(error).__name__}"] += 1
        self.check_words(f"{error} {error!r}")


def _claims(revoked: float) -> str:
    """What a resource wants after a revocation: a date mostly, else what only it understands."""
    moment = int(revoked)
    if moment % 4:
        return f'{{"access_token":{{"nbf":{{"essential":true,"value":"{moment}"}}}}}}'
    return f'{{"access_token":{{"xms_event":{{"value":"{revoked:.6f}"}}}}}}'


def _ask(credential: Any, ask: Ask, info: bool) -> Any:
    scope = f"{ask.resource}/.default"
    if not info:
        return credential.get_token(scope, claims=ask.claims)
    return credential.get_token_info(scope, options={"claims": ask.claims} if ask.claims else {})

"""Calls into the package: each is watched while it runs, and its result is checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from imds_identity import ManagedIdentityError

from . import tokens
from .event_log import contains_token, format_error
from .shared_state import monotonic

if TYPE_CHECKING:
    from .event_log import EventLog
    from .shared_state import SharedState
    from .tokens import IssuedToken
    from .watch import Watch

UNDOCUMENTED = "undocumented exceptions"
LEAKED = "tokens in messages"
_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 30.0, 60.0, 100.0, 1000.0)


class CallSpec(NamedTuple):
    """The parameters of a call to a credential.

    Attributes:
        kind: the kind of credential, for the report.
        resource: the requested resource.
        identity: the identity that the credential was created with.
        claims: the claims challenge to pass on, if there is one.
        not_before: a token that meets the challenge was issued at this time or later
            (`monotonic`).
    """

    kind: str
    resource: str
    identity: str
    claims: str | None = None
    not_before: float = float("-inf")


class CallChecker:
    """Calls credentials and records each violation of a rule.

    Args:
        watch: reports calls that hang.
        event_log: takes violations.
        shared_state: has the times of revocations.
        interrupts: exceptions that the process itself raises in the middle of a call.
    """

    def __init__(
        self,
        watch: Watch,
        event_log: EventLog,
        shared_state: SharedState,
        interrupts: tuple[type[BaseException], ...],
    ) -> None:
        self.watch = watch
        self.counts = watch.counts
        self._event_log = event_log
        self._shared_state = shared_state
        self._interrupts = interrupts
        self._not_blocked: list[float] = [0.0]

    def call_sync(
        self, credential: Any, spec: CallSpec, *, info: bool, main: bool = False
    ) -> IssuedToken | None:
        """Call a sync credential; return the content of its token, or None after an error."""
        began, number = self._begin(spec, self._not_blocked)
        try:
            return self._check(spec, began, _call(credential, spec, info).token)
        except ManagedIdentityError as error:
            self._count_error(error)
        except self._interrupts as error:
            if main:
                raise
            self.report_undocumented(error)
        except BaseException as error:  # noqa: BLE001 - each is a violation to report
            self.report_undocumented(error)
        finally:
            self._end(number, began)
        return None

    async def call_async(
        self, credential: Any, spec: CallSpec, *, info: bool, blocked: list[float]
    ) -> IssuedToken | None:
        """Call an async credential; raise nothing but a cancellation."""
        began, number = self._begin(spec, blocked)
        try:
            before = blocked[0]
            token = (await _call(credential, spec, info)).token
            # If its loop was blocked, the task may have waited long after the token was returned.
            return self._check(spec, began, token, was_running=blocked[0] == before)
        except ManagedIdentityError as error:
            self._count_error(error)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - each is a violation to report
            self.report_undocumented(error)
        finally:
            self._end(number, began)
        return None

    def challenge(self, spec: CallSpec, issued: IssuedToken | None) -> CallSpec | None:
        """Return the call that meets the resource's claims challenge, if the token was revoked."""
        revoked_at = self._shared_state.revoked_at(spec.resource)
        if issued is None or issued.issued_at >= revoked_at:
            return None
        self.counts["claims challenges"] += 1
        return spec._replace(claims=_claims(revoked_at), not_before=revoked_at)

    def report_undocumented(self, error: BaseException) -> None:
        """Record an exception that the documentation does not name."""
        self._event_log.write_violation(UNDOCUMENTED, format_error(error))

    def check_message(self, text: str) -> None:
        """Record a message that contains a token."""
        if contains_token(text):
            self._event_log.write_violation(LEAKED, text)

    def _begin(self, spec: CallSpec, blocked: list[float]) -> tuple[float, int]:
        self.counts[f"calls: {spec.kind}" + (", with claims" if spec.claims else "")] += 1
        description = f"{spec.kind} {spec.resource} {spec.identity}"
        return monotonic(), self.watch.begin(description, blocked)

    def _end(self, number: int, began: float) -> None:
        self.watch.end(number)
        seconds = monotonic() - began
        bucket = next((limit for limit in _BUCKETS if seconds < limit), _BUCKETS[-1])
        self.counts[f"duration: under {bucket:08.3f} s"] += 1

    def _check(
        self, spec: CallSpec, began: float, token: Any, *, was_running: bool = True
    ) -> IssuedToken | None:
        undisturbed = was_running and self.watch.undisturbed_since(began)
        returned_at = monotonic() if undisturbed else began
        try:
            issued = tokens.decode(token)
        except (ValueError, AttributeError, TypeError):
            self._event_log.write_violation(tokens.INVALID, f"{spec.kind}: {type(token).__name__}")
            return None
        self.counts["result: a token"] += 1
        violation = tokens.find_violation(
            issued, spec.resource, spec.identity, returned_at, spec.not_before
        )
        if violation is not None:
            rule, detail = violation
            after = f"{spec.kind}, after {monotonic() - began:.2f} s"
            self._event_log.write_violation(rule, f"{after}: {detail}")
        return issued

    def _count_error(self, error: ManagedIdentityError) -> None:
        self.counts[f"result: {type(error).__name__}"] += 1
        self.check_message(f"{error} {error!r}")


def _claims(revoked_at: float) -> str:
    """Return a challenge after a revocation: mostly a date, else a claim that is opaque to us."""
    seconds = int(revoked_at)
    if seconds % 4:
        return f'{{"access_token":{{"nbf":{{"essential":true,"value":"{seconds}"}}}}}}'
    return f'{{"access_token":{{"xms_event":{{"value":"{revoked_at:.6f}"}}}}}}'


def _call(credential: Any, spec: CallSpec, info: bool) -> Any:
    scope = f"{spec.resource}/.default"
    if not info:
        return credential.get_token(scope, claims=spec.claims)
    return credential.get_token_info(scope, options={"claims": spec.claims} if spec.claims else {})

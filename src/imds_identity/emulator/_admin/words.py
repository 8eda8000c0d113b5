"""Faults, moments and durations in plain words, with units and time zones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._state.fault import Fault
    from .._state.faults import Standing

_DOCUMENTS = {
    "tampered": "changes the attested document after it was signed",
    "expired": "signs an attested document that has expired",
    "wrong-name": "signs attested documents with a certificate for another name",
    "wrong-nonce": "signs another nonce into attested documents",
    "decoy-signer": "lets a stranger sign attested documents beside the right certificate",
    "unknown-root": "signs attested documents under an unknown root",
}


def effect(fault: Fault) -> str:
    """What a fault does, as a phrase."""
    parts = [*_instead(fault), *_changes(fault), *_travel(fault)]
    return ", ".join(parts)[:1].upper() + ", ".join(parts)[1:]


def _instead(fault: Fault) -> list[str]:
    if fault.reset:
        return ["resets the connection"]
    if fault.no_answer:
        return ["never answers"]
    return [f"answers {fault.status}"] if fault.status is not None else []


def _changes(fault: Fault) -> list[str]:
    parts = []
    if fault.retry_after is not None:
        seconds = isinstance(fault.retry_after, (int, float))
        parts.append(f"says Retry-After: {fault.retry_after}" + (" s" if seconds else ""))
    if fault.headers:
        parts.append("adds headers " + ", ".join(fault.headers))
    if fault.body is not None:
        parts.append(f"sends another body of {len(fault.body)} bytes")
    if fault.content_type:
        parts.append(f"calls it {fault.content_type}")
    if fault.date_skew:
        parts.append(f"moves the Date header by {fault.date_skew:g} s")
    if fault.token_lifetime is not None:
        left = f"with {fault.token_lifetime:g} s left" if fault.token_lifetime > 0 else "expired"
        parts.append(f"hands out a token {left}")
    return parts + ([_DOCUMENTS[fault.document]] if fault.document else [])


def _travel(fault: Fault) -> list[str]:
    parts = []
    if fault.delay:
        parts.append(f"waits {fault.delay:g} s first")
    if fault.slow_body:
        parts.append(f"sends the body over {fault.slow_body:g} s")
    if fault.truncate is not None:
        parts.append(f"closes after {fault.truncate} bytes of the body")
    return parts


def reach(standing: Standing) -> str:
    """Which requests a fault still spoils, as a phrase."""
    fault = standing.fault
    kind = "request" if fault.category == "*" else f"{fault.category} request"
    if fault.leg is not None:
        kind = f"{kind} ({fault.leg} leg)"
    if fault.times is None:
        words = f"every {kind}"
    else:
        left = fault.times - standing.spoiled
        words = f"the next {kind}" if left == 1 else f"the next {left} {kind}s"
    if fault.probability < 1:
        words += f", each with a chance of {fault.probability:.0%}"
    waiting = fault.after - standing.passed
    return f"{words}, after {waiting} good ones" if waiting > 0 else words


def moment(seconds: float) -> str:
    """A moment as a date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def machine_moment(seconds: float) -> str:
    """A moment as programs read it (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def duration(seconds: float | None) -> str:
    """How long something took or takes, with its unit."""
    if seconds is None:
        return "under way"
    if seconds < 0.0005:
        return "under 1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

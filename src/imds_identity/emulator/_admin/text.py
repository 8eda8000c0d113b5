"""Texts of the admin page: descriptions of faults, times and durations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._state.fault import Fault
    from .._state.faults import ActiveFault

_DEFECTS = {
    "tampered": "changes the attested document after signing it",
    "expired": "signs an expired attested document",
    "wrong-name": "signs the attested document with a certificate for another name",
    "wrong-nonce": "signs another nonce in the attested document",
    "decoy-signer": "signs the attested document with another key, next to the right certificate",
    "unknown-root": "signs the attested document under an unknown root",
    "classic": "signs the attested document of a classic VM",
    "without-compute": "returns the instance document without compute",
    "without-network": "returns the instance document without network",
}


def describe_effects(fault: Fault) -> str:
    """Return the effects of a fault as a phrase."""
    phrase = ", ".join([*_replacements(fault), *_changes(fault), *_delivery(fault)])
    return phrase[:1].upper() + phrase[1:]


def _replacements(fault: Fault) -> list[str]:
    if fault.reset:
        return ["resets the connection"]
    if fault.no_answer:
        return ["never responds"]
    if fault.denied:
        return [f"denies access with status {fault.status or 403}"]
    return [f"responds with status {fault.status}"] if fault.status is not None else []


def _changes(fault: Fault) -> list[str]:
    parts = []
    if fault.retry_after is not None:
        seconds = isinstance(fault.retry_after, (int, float))
        parts.append(f"sends Retry-After: {fault.retry_after}" + (" s" if seconds else ""))
    if fault.headers:
        parts.append("adds the headers " + ", ".join(fault.header_fields()))
    if fault.body is not None:
        parts.append(f"sends another body of {len(fault.body)} bytes")
    if fault.content_type:
        parts.append(f"sends the Content-Type {fault.content_type}")
    if fault.date_skew:
        parts.append(f"shifts the Date header by {fault.date_skew:g} s")
    if fault.token_lifetime is not None:
        valid = f"a token that expires in {fault.token_lifetime:g} s"
        parts.append("returns " + (valid if fault.token_lifetime > 0 else "an expired token"))
    return parts + ([_DEFECTS[fault.document]] if fault.document else [])


def _delivery(fault: Fault) -> list[str]:
    parts = []
    if fault.delay:
        parts.append(f"waits {fault.delay:g} s first")
    if fault.slow_body:
        parts.append(f"sends the body over {fault.slow_body:g} s")
    if fault.truncate is not None:
        parts.append(f"closes the connection after {fault.truncate} bytes of the body")
    return parts


def describe_scope(active: ActiveFault) -> str:
    """Return the requests that a fault will apply to, as a phrase."""
    fault = active.fault
    kind = "request" if fault.category == "*" else f"{fault.category} request"
    if fault.leg is not None:
        kind = f"{kind} ({fault.leg} leg)"
    if fault.times is None:
        scope = f"every {kind}"
    else:
        left = fault.times - active.applied
        scope = f"the next {kind}" if left == 1 else f"the next {left} {kind}s"
    if fault.probability < 1:
        scope += f", each with a probability of {fault.probability:.0%}"
    skip = fault.after - active.skipped
    skipped = "1 request" if skip == 1 else f"{skip} requests"
    return f"{scope}, after skipping {skipped}" if skip > 0 else scope


def format_time(seconds: float) -> str:
    """Return a date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def format_clock(seconds: float) -> str:
    """Return a time of day in UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def format_count(number: int) -> str:
    """Return a number with separators."""
    return f"{number:,}"


def rfc3339_time(seconds: float) -> str:
    """Return a date and time in the format of RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def format_duration(seconds: float | None) -> str:
    """Return a duration with its unit."""
    if seconds is None:
        return "pending"
    if seconds < 0.0005:
        return "< 1 ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"

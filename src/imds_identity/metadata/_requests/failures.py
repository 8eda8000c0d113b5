"""Failures that only the metadata service reports; errors.py maps them to public exceptions."""

from __future__ import annotations

from ..._core.failure import Reason, Refused, Unavailable


class UnsupportedOnHost(Unavailable):
    """This kind of host, or the service in this region, does not have the category."""

    default_reason = Reason.UNSUPPORTED


class ElementNotFound(Refused):
    """The service has no element with that name."""

    default_reason = Reason.NOT_FOUND


class UnsupportedVersion(Refused):
    """The service does not support the requested API version."""

    default_reason = Reason.UNSUPPORTED_VERSION

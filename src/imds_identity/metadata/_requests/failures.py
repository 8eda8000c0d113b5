"""Why a category gave no answer, as exchanges say it; errors.py turns these into what users catch.

They add to the failures of tokens what only metadata can answer.
"""

from __future__ import annotations

from ..._core.failure import Reason, Refused, Unavailable


class NotOffered(Unavailable):
    """This kind of machine, or this region's service, does not have the category."""

    default_reason = Reason.UNSUPPORTED


class NotFound(Refused):
    """The service has no element of that name."""

    default_reason = Reason.NOT_FOUND


class UnknownVersion(Refused):
    """The service does not know the api-version that was asked for."""

    default_reason = Reason.UNSUPPORTED_VERSION

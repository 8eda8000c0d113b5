"""Converts exceptions of transports into errors whose texts contain no secret.

It also builds the header fields of requests, because they contain these secrets.
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import sys
from typing import TYPE_CHECKING

from .._core.failure import Failure, Reason, Refused, Unavailable, sanitize
from .._core.secret import Secret
from .._core.source import shown_url, url_secrets
from .._version import __version__
from .connection import kind_of, timed_out
from .exchange import ConnectFailed, ErrorKind, ReadFailed, TransportError
from .local_errors import local_failure, safe_text

if TYPE_CHECKING:
    from .messages import Request

USER_AGENT = f"imds-identity/{__version__} Python/{sys.version_info[0]}.{sys.version_info[1]}"

# "identity" means uncompressed.
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
_NO_ROUTE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}


def plain_headers(request: Request) -> dict[str, str]:
    """Return the header fields to send. Secrets are revealed only here."""
    plain = {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in request.headers.items()
    }
    return {**_HEADERS, **plain}


def transport_error_from(error: Exception, request: Request) -> Exception:
    """Return the TransportError or Failure for ``error``, without the objects that it holds.

    Its text contains no secret of ``request``.
    """
    if isinstance(error, TransportError | Failure):
        # The frames that it passed through hold secrets.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    if failure := local_failure(error):
        return failure
    if isinstance(error, OSError):
        return _from_os_error(error, request)
    if isinstance(error, http.client.HTTPException):
        is_partial = isinstance(error, http.client.IncompleteRead)
        kind = ErrorKind.INCOMPLETE if is_partial else ErrorKind.OTHER
        return ReadFailed(system_message(error, request), kind)
    error_text = redacted(safe_text(error), request)
    return Refused(
        f"the transport or one of its hooks raised {type(error).__name__}: {error_text}",
        "This is not an error of the service: correct the transport or hook, or omit it.",
        reason=Reason.TRANSPORT_ERROR,
    )


def system_message(error: object, request: Request) -> str:
    """Return the system's text, without the repr of the object that urllib3 puts before it."""
    if "IncompleteRead(" in str(error):
        return "the response ended early"
    error_text = re.sub(r"\[\w+ \d+\] ", "", str(error).rsplit(": ", 1)[-1].strip("()'\" "))
    return redacted(error_text, request) or type(error).__name__


def redacted(text: str, request: Request) -> str:
    """Return ``text`` for a message, without the secrets of ``request``."""
    for name, value in request.headers.items():
        if isinstance(value, Secret):
            text = value.redacted(text)
        elif name.lower() == "authorization":
            text = Secret(value).redacted(text)
    for secret in url_secrets(request.url):
        text = secret.redacted(text)
    return sanitize(text)


def invalid_url(request: Request) -> Unavailable:
    """Return the failure of a request that cannot be sent."""
    where = shown_url(request.url.partition("?")[0])
    return Unavailable(
        f"no request can be sent to {where}: it is not a valid http or https URL, or a header is "
        "not valid",
        "Correct the variable that names it. A port is a number from 1 to 65535; a name with "
        "non-ASCII letters must be in its xn-- form.",
        reason=Reason.INVALID_SETTING,
    )


def _from_os_error(error: OSError, request: Request) -> TransportError:
    error_text = redacted(error.strerror or str(error), request)
    if isinstance(error, TimeoutError) and not error_text:
        return timed_out(request.seconds)
    if error.errno in _NO_ROUTE or isinstance(error, socket.gaierror):
        return ConnectFailed(error_text or type(error).__name__, kind_of(error))
    return ReadFailed(error_text or type(error).__name__, kind_of(error))

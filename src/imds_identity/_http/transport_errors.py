"""What came of sending, as the engine knows it: words, and none of the objects that hold a secret.

Also what every request carries: the words of a problem leave that out again.
"""

from __future__ import annotations

import errno
import http.client
import socket
import sys

from .._core.failure import Failure, Reason, Refused, Unavailable, sanitize
from .._core.secret import Secret
from .._version import __version__
from .connection import timed_out
from .exchange import ConnectFailed, ReadFailed, Request, TransportError

USER_AGENT = f"imds-identity/{__version__} Python/{sys.version_info[0]}.{sys.version_info[1]}"

# identity means uncompressed: the metadata service has no reason to compress a few kilobytes.
_HEADERS = {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"}
_NO_ROUTE = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}


def plain_headers(request: Request) -> dict[str, str]:
    """The header fields as they are sent; here, and nowhere else, is a secret one revealed."""
    plain = {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in request.headers.items()
    }
    return {**_HEADERS, **plain}


def transport_error_from(error: Exception, request: Request) -> Exception:
    """``error`` as the engine knows it, without the objects in it: they hold the request.

    Args:
        error: what came of sending.
        request: what was sent; no secret of its headers gets into the words.
    """
    if isinstance(error, TransportError | Failure):
        # What was raised deep inside must not carry the frames that it came through.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    if isinstance(error, OSError):
        return _from_os_error(error, request)
    if isinstance(error, http.client.HTTPException):
        return ReadFailed(system_message(error, request))
    error_text = redacted(str(error), request)
    return Refused(
        f"the transport or one of its hooks raised {type(error).__name__}: {error_text}",
        "Such an error is not one of the service's: correct what sends, or leave it out.",
        reason=Reason.TRANSPORT_ERROR,
    )


def system_message(error: object, request: Request) -> str:
    """The system's own words, without the address of the object that met with it."""
    error_text = str(error).rsplit(": ", 1)[-1].strip("()'\" ")
    return redacted(error_text, request) or type(error).__name__


def redacted(text: str, request: Request) -> str:
    """``text`` fit for a message, without what ``request`` carries that is secret."""
    for name, value in request.headers.items():
        if isinstance(value, Secret):
            text = value.redacted(text)
        elif name.lower() == "authorization":
            text = Secret(value).redacted(text)
    return sanitize(text)


def invalid_url(request: Request) -> Unavailable:
    """What is raised for a request that no number of retries would get anywhere."""
    where = sanitize(request.url.partition("?")[0].rpartition("@")[2])
    return Unavailable(
        f"the endpoint {where} cannot be asked: it is no URL of http or https, or a header of the "
        "request is none",
        "Correct the variable that names it; a port is a number from 1 to 65535, and a name with "
        "letters beyond ASCII is written in its xn-- form.",
        reason=Reason.INVALID_SETTING,
    )


def _from_os_error(error: OSError, request: Request) -> TransportError:
    error_text = redacted(error.strerror or str(error), request)
    if isinstance(error, TimeoutError) and not error_text:
        return timed_out(request.seconds)
    if error.errno in _NO_ROUTE or isinstance(error, socket.gaierror):
        return ConnectFailed(error_text or type(error).__name__)
    return ReadFailed(error_text or type(error).__name__)

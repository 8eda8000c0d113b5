"""A Kubernetes workload's identity, for whose own token MSAL gets another.

https://learn.microsoft.com/azure/aks/workload-identity-overview
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msal

from .._core.failure import Failure, Malformed, Refused, Unavailable, quote
from .._core.issued import Fields, token_of
from .._wire.exchange import TransportError
from .msal_session import MsalSession

if TYPE_CHECKING:
    import requests

    from .._core.source import Source
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._wire.channel import Channel

_LONGEST_ASSERTION = 65536


def fetch(source: Source, token_file: str, wanted: TokenRequest, channel: Channel) -> Token:
    """One token, from Microsoft Entra ID and from no cache.

    Args:
        source: where it is, and whose token without a selector.
        token_file: the file with the workload's own token.
        wanted: whose token, and for what.
        channel: its clock is used; MSAL sends by a session of its own.

    Raises:
        Failure: when there is none to be had.
    """
    if wanted.identity.selector not in ("", "client_id"):
        raise Refused(
            f"workload identity cannot select an identity by {wanted.identity.selector}",
            "Leave the selector out, or use the client id.",
        )
    if not source.endpoint.lower().startswith("https://"):
        raise Unavailable(
            f"{source.variable} must begin with https: the workload's own token is sent there",
            f"Correct or unset {source.variable}.",
        )
    sent_at, sent_wall = channel.clock.now(), channel.clock.wall()
    fields = _said_to(source, token_file, wanted, channel)
    return _token(fields, sent_at, sent_wall, channel.random())


def _said_to(source: Source, token_file: str, wanted: TokenRequest, channel: Channel) -> Fields:
    problem: Failure
    with MsalSession(channel.clock, channel.random) as session:
        try:
            return Fields(dict(_result(source, token_file, wanted, session)))
        except Failure as failure:
            problem = failure
        except TransportError as error:
            problem = Unavailable(
                f"the host does not answer ({quote(str(error))})",
                f"{source.variable} says where it is.",
            )
        except OSError as error:
            problem = Unavailable(
                f"the host does not answer ({type(error).__name__})",
                f"{source.variable} says where it is.",
            )
        except Exception as error:  # noqa: BLE001 - MSAL trips over what it does not expect
            words = quote(str(error)) or "no words"
            problem = Malformed(
                f"the host's answer makes no token ({type(error).__name__}: {words})",
                f"Is it {source} that answers there?",
            )
    # Not inside the handler, and without its way here: an exception's context and its traceback
    # hold MSAL's frames, and those the workload's own token and the answer.
    raise problem.again()


def _token(fields: Fields, sent_at: float, sent_wall: float, random: float) -> Token:
    if fields.get("access_token") is None:
        words = quote(f"{_text(fields, 'error')}: {_text(fields, 'error_description')}")
        raise Refused(f"the host gave no token: {words}")
    lifetime = fields.seconds("expires_in")
    if not lifetime:
        raise Malformed("the host's answer has no expires_in above 0")
    return token_of(fields, lifetime, sent_at, sent_wall, random)


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else f"no {name}"


def _result(
    source: Source, token_file: str, wanted: TokenRequest, session: requests.Session
) -> Any:
    def assertion() -> str:
        try:
            with open(token_file, encoding="utf-8") as file:
                return file.read(_LONGEST_ASSERTION)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unavailable(
            f"{quote(token_file)!r} cannot be read: {reason}",
            "AZURE_FEDERATED_TOKEN_FILE names the file with this workload's token.",
        )

    app = msal.ConfidentialClientApplication(
        wanted.identity.value or source.client_id,
        authority=source.endpoint,
        client_credential={"client_assertion": assertion},
        http_client=session,
    )
    scopes = [f"{wanted.resource}/.default"]
    return app.acquire_token_for_client(scopes=scopes, claims_challenge=wanted.claims)

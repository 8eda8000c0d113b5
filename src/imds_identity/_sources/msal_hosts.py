"""The hosts that are no machine: an app's, and a Kubernetes workload's identity by MSAL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core.failure import Failure, Malformed, Refused, Unavailable, quote
from .._core.fork import whole
from .._core.issued import Fields, token_of
from .._wire.channel import Channel
from .._wire.exchange import TransportError
from .._wire.sender import requests_sender
from .app_hosts import HOSTS, exchange
from .detect import secret_of, thumbprint_of

if TYPE_CHECKING:
    import requests

    from .._core.clock import Clock
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._wire.exchange import Random
    from .detect import Source

_LONGEST_ASSERTION = 65536


class MsalHost:
    """A host, for one identity.

    Args:
        source: which host.
        clock: when the answers come.
        random: spreads the refreshes.
    """

    def __init__(self, source: Source, clock: Clock, random: Random) -> None:
        self._source = source
        self._clock = clock
        self._random = random
        # What a claims challenge is about, by resource.
        self._last: dict[str, Token] = {}

    def fetch(self, wanted: TokenRequest) -> Token:
        """One token, from the host and from no cache.

        Raises:
            Failure: when there is none to be had.
        """
        if self._source.name not in HOSTS:
            return _workload_identity(self._source, wanted, self._clock, self._random)
        steps = exchange(
            self._source.name,
            self._source.endpoint,
            wanted,
            self._random,
            secret=secret_of(self._source),
            thumbprint=thumbprint_of(self._source),
            refused=self._last.get(wanted.resource) if wanted.claims else None,
        )
        with requests_sender(self._clock) as send:
            token = Channel(send, self._clock).run(steps)
        self._last[wanted.resource] = token
        return token


def _workload_identity(source: Source, wanted: TokenRequest, clock: Clock, random: Random) -> Token:
    """A token for the one that Kubernetes gave this workload.

    https://learn.microsoft.com/azure/aks/workload-identity-overview
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
    sent_at, sent_wall = clock.now(), clock.wall()
    return _token(_said_to(source, wanted, clock, random), sent_at, sent_wall, random())


def _said_to(source: Source, wanted: TokenRequest, clock: Clock, random: Random) -> Fields:
    with whole():
        import msal  # noqa: F401 - else imported by what follows, where a fork may come between

        from .msal_session import MsalSession

    problem: Failure
    # This goes over the internet, by its proxies.
    with MsalSession(clock, random, proxies=True) as session:
        try:
            return Fields(dict(_result(source, wanted, session)))
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


def _result(source: Source, wanted: TokenRequest, session: requests.Session) -> Any:
    import msal

    def assertion() -> str:
        try:
            with open(source.path, encoding="utf-8") as file:
                return file.read(_LONGEST_ASSERTION)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
        raise Unavailable(
            f"{quote(source.path)!r} cannot be read: {reason}",
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

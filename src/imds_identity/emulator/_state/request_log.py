"""The log of the latest requests and responses, without secrets."""

from __future__ import annotations

import functools
import itertools
import json
import logging
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._messages import Request, Response
    from .tokens import TokenUse

_LOG = logging.getLogger(__name__)
HIDDEN = "(hidden)"
# Of headers, parameters, fields of forms and attributes in JSON.
_SECRET_NAME = re.compile(
    r"(proxy-)?authorization|x-ms-authorization-auxiliary|(set-)?cookie|x-identity-header|sig|"
    r".*(token|secret|password|assertion|api[-_]?key)",
    re.IGNORECASE | re.DOTALL,
)
_MAX_VALUE_LENGTH = 512
_MAX_TARGET_LENGTH = 2048
_MAX_BODY_LENGTH = 4096
_MAX_FIELDS = 40
# A pattern that starts with a constant is searched faster than one for the whole name.
_TOKEN = re.compile(r'(_token"\s*:\s*")[^"]*')
_WORD = re.compile(r"[\w.-]+")
_JWT_START = "eyJ"  # {" in Base64
# These bodies may have secrets of a Key Vault, even if the client has a wrong URL.
_HIDDEN_JSON = frozenset({"key-vault", "unknown"})
_SELECTORS = frozenset(
    {"client_id", "clientid", "mi_res_id", "msi_res_id", "object_id", "principal_id", "principalid"}
)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request and its response, without secrets.

    Attributes:
        number: counts from 1.
        time: when it arrived, in Unix seconds by the emulator's clock.
        method: as sent.
        target: as sent, without secrets.
        category: the category of its endpoint: ``identity``, ``instance``, ``key-vault`` and so on.
        path: the target's path, decoded, without a trailing slash.
        query: the last value of each query parameter.
        headers: names in lower case; the values of secret ones are ``(hidden)``.
        body: the body of the request, shortened, without tokens and secrets.
        status: the status of the response; 0 when a fault sent no response.
        client: the client's address.
        leg: on Arc, ``challenge`` for a request without a secret, ``answer`` for one with it.
        resource: the resource of the token that the request returned, presented or requested.
        identity: the client id of that token, or the id by which the request selects an identity.
        token: the header and the claims of that token, encoded, without its signature.
        response_headers: the headers of the response; empty until it has been sent.
        answer: the body of the response, shortened, without tokens and secrets.
        note: why the response is not the usual one, such as a fault; otherwise empty.
        effects: the effects of a fault or of the rate limits, by the attribute names of `Fault`.
        seconds: how long the response took; None until it has been sent.
    """

    number: int
    time: float
    method: str
    target: str
    category: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    status: int
    client: str = ""
    leg: str = ""
    answer: str = ""
    note: str = ""
    effects: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    body: str = ""
    resource: str = ""
    identity: str = ""
    token: str = field(default="", repr=False)
    response_headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The category, note and effects of a request; see `RecordedRequest`."""

    category: str
    note: str = ""
    effects: Mapping[str, object] = field(default_factory=dict)


class RequestLog:
    """The latest requests, at most ``size``."""

    def __init__(self, size: int) -> None:
        self._records: deque[RecordedRequest] = deque(maxlen=size)
        self._count = 0
        self.listeners: list[Callable[[RecordedRequest], object]] = []

    def add(
        self,
        request: Request,
        response: Response,
        outcome: Outcome,
        time: float,
        use: TokenUse | None = None,
    ) -> RecordedRequest:
        """Record a request and its response, and call the listeners."""
        sent = not (response.delivery.reset or response.delivery.no_answer)
        fields = (*request.query, *request.form().items()) if request.body else request.query
        self._count += 1
        record = RecordedRequest(
            self._count,
            time,
            request.method,
            _target_without_secrets(request)[:_MAX_TARGET_LENGTH],
            outcome.category,
            _hide_signatures(request.path)[:_MAX_TARGET_LENGTH],
            _values_without_secrets(request.query),
            _values_without_secrets(request.headers),
            response.status if sent else 0,
            request.peer,
            leg_of(request),
            _body_without_secrets(response, outcome.category) if sent else "",
            outcome.note,
            outcome.effects,
            body=_sent_body(request, outcome.category) if request.body else "",
            resource=(use.resource if use else _requested_resource(fields))[:_MAX_VALUE_LENGTH],
            identity=(use.client_id if use else _selected_identity(fields))[:_MAX_VALUE_LENGTH],
            token=use.content if use else "",
        )
        self._records.append(record)
        for listener in self.listeners:
            try:
                listener(record)
            except Exception:  # noqa: BLE001 - a listener's failure must not affect the client
                _LOG.exception("A request listener of the emulator failed")
        return record

    def finish(self, record: RecordedRequest, seconds: float, headers: Mapping[str, str]) -> None:
        """Record how long the response to a request took, and its headers."""
        kept = _values_without_secrets(headers.items()) if record.status else {}
        # The record is complete only now. A copy would take three percent of a token request.
        object.__setattr__(record, "seconds", seconds)
        object.__setattr__(record, "response_headers", kept)

    def snapshot(self) -> list[RecordedRequest]:
        return list(self._records)

    def clear(self) -> None:
        self._records.clear()
        self._count = 0


def leg_of(request: Request) -> str:
    """Return the leg of Arc's challenge that a request belongs to."""
    return "challenge" if request.header("authorization") is None else "answer"


def _body_without_secrets(response: Response, category: str) -> str:
    if response.status < 400 and category == "key-vault":
        return HIDDEN
    return _text_without_tokens(response.body)


def _sent_body(request: Request, category: str) -> str:
    """Return the body of a request; of unknown types nothing, because it may have secrets."""
    media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        return _shorten(_encode_without_secrets(request.form().items()))
    is_shown = media_type == "application/json" and category not in _HIDDEN_JSON
    return _json_without_secrets(request.body) if is_shown else HIDDEN


def _json_without_secrets(body: bytes) -> str:
    def hide(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {name: HIDDEN if _is_secret(name) else value for name, value in pairs}

    try:
        document = json.loads(body, object_pairs_hook=hide)
        text = body.decode() if document == json.loads(body) else json.dumps(document)
    except (ValueError, RecursionError):
        return HIDDEN
    return _shorten(_hide_signatures(text))


def _text_without_tokens(body: bytes) -> str:
    # The pattern needs no closing quote, because a token may be longer than the part kept here.
    text = body[: _MAX_BODY_LENGTH + 1].decode("utf-8", "replace")
    return _shorten(_hide_signatures(_TOKEN.sub(_hide, text)))


def _target_without_secrets(request: Request) -> str:
    target = request.target
    if any(_is_secret(name) for name, _ in request.query):
        target = f"{target.partition('?')[0]}?{_encode_without_secrets(request.query)}"
    return _hide_signatures(target)


def _encode_without_secrets(pairs: Iterable[tuple[str, str]]) -> str:
    kept = [
        (name, HIDDEN if _is_secret(name) else _hide_signatures(value)) for name, value in pairs
    ]
    return urlencode(kept, safe="()/:")


def _values_without_secrets(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {
        name[:_MAX_VALUE_LENGTH]: HIDDEN
        if _is_secret(name)
        else (_hide_signatures(value) if _JWT_START in value else value)[:_MAX_VALUE_LENGTH]
        for name, value in itertools.islice(pairs, _MAX_FIELDS)
    }


@functools.lru_cache(maxsize=256)  # clients send the same few names again and again
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.fullmatch(name) is not None


def _hide_signatures(text: str) -> str:
    """Hide the signatures of tokens, wherever a client may have sent one."""
    # A pattern for a whole token would take quadratic time.
    return _WORD.sub(_hide_signature, text) if _JWT_START in text else text


def _hide_signature(found: re.Match[str]) -> str:
    before, start, token = found[0].partition(_JWT_START)
    parts = token.split(".", 2)
    return f"{before}{start}{parts[0]}.{parts[1]}.{HIDDEN}" if len(parts) > 2 else found[0]


def _hide(found: re.Match[str]) -> str:
    return found[1] + HIDDEN


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_BODY_LENGTH else text[:_MAX_BODY_LENGTH] + "…"


def _requested_resource(fields: Iterable[tuple[str, str]]) -> str:
    for name, value in fields:
        if name in {"resource", "scope"}:
            return _hide_signatures(value.removesuffix("/.default") if name == "scope" else value)
    return ""


def _selected_identity(fields: Iterable[tuple[str, str]]) -> str:
    return next((value for name, value in fields if name.lower() in _SELECTORS), "")

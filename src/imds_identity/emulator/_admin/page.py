"""The admin page: what happened, and controls for what may happen."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from .._machine.identities import SystemAssigned
from .._messages import Response
from .._state.events import NOTICE, SOURCES
from .._state.fault import CATEGORIES, DOCUMENTS
from . import words
from .snippets import snippets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from .._state.state import World

_SHOWN = 100
_MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# What people ask for most, as the fields of the form.
_USUAL_FAULTS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("429, three times", {"status": "429", "retry_after": "2", "times": "3"}),
    ("500, once", {"status": "500", "times": "1"}),
    ("410 for 70 s", {"status": "410", "seconds": "70"}),
    ("Connection reset", {"reset": "on", "times": "1"}),
    ("5 s slower, once", {"delay": "5", "times": "1"}),
    ("Expired token", {"token_lifetime": "-60", "times": "1"}),
)


class Place(NamedTuple):
    """Where the emulator is, as the page tells it.

    Attributes:
        endpoint: the URL of the emulated host.
        exports: what clients must export, as shell lines.
        vault: the URL of the Key Vault; empty without one.
    """

    endpoint: str
    exports: str
    vault: str


class Mistake(NamedTuple):
    """A form that made no sense, to be shown again with what was wrong.

    Attributes:
        form: which one.
        values: what was typed.
        errors: what is wrong, by field; the whole form's under an empty name.
    """

    form: str = ""
    values: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        moment=words.moment, machine=words.machine_moment, duration=words.duration
    )
    return environment


def page(world: World, place: Place, mistake: Mistake | None = None) -> Response:
    """The whole page.

    Args:
        world: what it shows.
        place: where the emulator is.
        mistake: a form to show again, with what was wrong.
    """
    shown = (
        _templates()
        .get_template("page.html")
        .render(
            place=place,
            identities=[_identity(world, place, number) for number in range(len(world.identities))],
            usual_faults=_USUAL_FAULTS,
            categories=(*CATEGORIES, "*"),
            documents=DOCUMENTS,
            event_types=tuple(NOTICE),
            sources=SOURCES,
            mistake=mistake or Mistake(),
            **_live_parts(world),
        )
    )
    return _html(shown, 200 if mistake is None else 400)


def live(world: World) -> Response:
    """The part of the page that changes by itself."""
    return _html(_templates().get_template("live.html").render(**_live_parts(world)), 200)


def static(name: str) -> Response | None:
    """A style sheet or a script; None where there is none of that name."""
    kind = _MEDIA.get(name[name.rfind(".") :])
    file = files(__package__ or "").joinpath("static").joinpath(name)
    if kind is None or "/" in name or not file.is_file():
        return None
    return Response(200, file.read_bytes(), kind)


def _html(text: str, status: int) -> Response:
    body = text.encode("utf-8", "replace")
    headers = {"Content-Security-Policy": _POLICY}
    return Response(status, body, "text/html; charset=utf-8", headers)


def _live_parts(world: World) -> dict[str, Any]:
    now = world.clock.time()
    with world.lock:
        return {
            "world": world,
            "now": now,
            "faults": [
                {
                    "number": standing.number,
                    "effect": words.effect(standing.fault),
                    "reach": words.reach(standing),
                    "spoiled": standing.spoiled,
                    "left": None if standing.ends is None else max(0.0, standing.ends - now),
                }
                for standing in world.faults.standing()
            ],
            "events": sorted(world.current_events(), key=lambda event: event.not_before),
            "tokens": list(reversed(world.issued_tokens()))[:_SHOWN],
            "revoked_to": world.tokens.revoked_to,
            "requests": list(reversed(world.recorded_requests()[-_SHOWN:])),
        }


def _identity(world: World, place: Place, number: int) -> dict[str, Any]:
    identity = world.identities[number]
    system = isinstance(identity, SystemAssigned)
    principal = world.principal(identity)
    return {
        "name": "System-assigned" if system else principal.resource_id.rpartition("/")[2],
        "ids": (
            ("client_id", identity.client_id),
            ("object_id", identity.object_id),
            ("resource id", principal.resource_id),
        ),
        "snippets": snippets(world, place.endpoint, identity),
    }

"""The admin page: what happened, and buttons for what may happen. Rendered here, no build step."""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING

from .._world.events import NOTICE
from .._world.fault import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._world.records import RecordedRequest
    from .._world.world import World

_SHOWN = 100
_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 1rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; padding: .2rem .5rem; border-bottom: 1px solid #8885; }
td { vertical-align: top; overflow-wrap: anywhere; }
form { display: inline-flex; gap: .5rem; flex-wrap: wrap; align-items: end; }
form { margin: .3rem 1rem .3rem 0; }
label { display: inline-flex; flex-direction: column; font-size: .8rem; }
input { width: 7rem; }
.bad { color: #c33; font-weight: bold; }
details { font-size: .8rem; }
"""
# Only the tables are refreshed: replacing the forms would lose what somebody is typing.
_SCRIPT = """
const live = document.getElementById("live");
async function refresh() {
  try {
    const answer = await fetch("/live", {cache: "no-store"});
    const open = new Set([...live.querySelectorAll("details[open]")].map(d => d.id));
    if (answer.ok) {
      live.innerHTML = await answer.text();
      for (const d of live.querySelectorAll("details")) d.open = open.has(d.id);
    }
  } catch {}
  setTimeout(refresh, 1000);
}
setTimeout(refresh, 1000);
"""
_COMMON_FAULTS = (
    ("429", "status=429&retry_after=2&times=3"),
    ("500 once", "status=500&times=1"),
    ("410 for 70 s", "status=410&seconds=70"),
    ("Connection reset", "reset=on&times=1"),
    ("Slow", "delay=5&times=1"),
    ("Expired token", "token_lifetime=-60&times=1"),
)


def page(world: World, profile: str, endpoint: str, nonce: str) -> str:
    """The page.

    Args:
        world: what it shows.
        profile: the kind of host.
        endpoint: its URL.
        nonce: marks its own style and script for the content security policy.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>imds-identity emulator</title>
<style nonce="{nonce}">{_STYLE}</style></head><body>
<h1>imds-identity emulator</h1>
<p>Profile <b>{escape(profile)}</b> on <code>{escape(endpoint)}</code></p>
{_controls()}
<main id="live">{live(world)}</main>
<script nonce="{nonce}">{_SCRIPT}</script>
</body></html>"""


def live(world: World) -> str:
    """The part of the page that changes by itself."""
    return "".join(
        (
            _section("Faults", _faults(world)),
            _section("Scheduled events", _events(world)),
            _section("Tokens issued", _tokens(world)),
            _section("Requests, latest first", _requests(world.recorded_requests())),
        )
    )


def _controls() -> str:
    ready = "".join(
        f'<form method="post" action="/do/fault">{_hidden(fields)}<button>{label}</button></form>'
        for label, fields in _COMMON_FAULTS
    )
    return f"""<h2>Make something go wrong</h2>{ready}
<form method="post" action="/do/fault" id="fault">
{_choice("category", (*CATEGORIES, "*"))}
{_field("status", "503")}{_field("retry_after", "")}{_field("delay", "")}
{_field("truncate", "")}{_field("date_skew", "")}{_field("times", "1")}
<button>Set fault</button></form>
<form method="post" action="/do/revoke"><button>Revoke all tokens</button></form>
<form method="post" action="/do/reset"><button>Forget everything</button></form>
<h2>Schedule an event</h2>
<form method="post" action="/do/event" id="event">
{_choice("event_type", tuple(NOTICE))}{_field("notice", "60")}{_field("runs", "60")}
{_field("description", "")}<button>Schedule event</button></form>"""


def _hidden(fields: str) -> str:
    pairs = (pair.split("=", 1) for pair in fields.split("&"))
    return "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in pairs)


def _field(name: str, value: str) -> str:
    return f'<label>{name}<input name="{name}" value="{value}"></label>'


def _choice(name: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{value}</option>" for value in values)
    return f'<label>{name}<select name="{name}">{options}</select></label>'


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>{body or '<p>None.</p>'}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else ""


def _faults(world: World) -> str:
    rows = [
        (
            str(number),
            escape(fault.category),
            escape(fault.describe()),
            "until cleared" if fault.times is None else f"{fault.times} times",
            _button("/do/clear-fault", "number", str(number), "Clear"),
        )
        for number, fault in world.active_faults()
    ]
    return _table(("#", "Category", "Effect", "How often", ""), rows)


def _events(world: World) -> str:
    rows = [
        (
            escape(event.event_type),
            escape(event.status),
            _moment(event.not_before),
            escape(", ".join(event.resources)),
            escape(event.description),
            _button("/do/cancel-event", "event_id", event.event_id, "Cancel"),
        )
        for event in world.current_events()
    ]
    return _table(("Type", "Status", "Not before", "Resources", "Description", ""), rows)


def _tokens(world: World) -> str:
    rows = [
        (
            escape(token.resource),
            escape(token.client_id),
            _moment(token.issued),
            _moment(token.expires),
        )
        for token in reversed(world.issued_tokens())
    ]
    return _table(("Resource", "Client id", "Issued", "Expires"), rows[:_SHOWN])


def _requests(records: list[RecordedRequest]) -> str:
    rows = [_request(record) for record in reversed(records[-_SHOWN:])]
    return _table(("#", "Time", "Status", "Category", "Request", "Note"), rows)


def _request(record: RecordedRequest) -> tuple[str, ...]:
    headers = "".join(
        f"{escape(name)}: {escape(value)}<br>" for name, value in record.headers.items()
    )
    if record.refusal:
        headers += f"<p>{escape(record.refusal)}</p>"
    shown = f"{escape(record.method)} {escape(record.target)}"
    status = str(record.status or "none")
    return (
        str(record.number),
        _moment(record.time),
        status if record.status == 200 else f'<span class="bad">{status}</span>',
        escape(record.category),
        f'<details id="r{record.number}"><summary>{shown}</summary>{headers}</details>',
        escape(record.note),
    )


def _button(action: str, name: str, value: str, label: str) -> str:
    return (
        f'<form method="post" action="{action}">'
        f'<input type="hidden" name="{name}" value="{escape(value)}">'
        f"<button>{label}</button></form>"
    )


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))

"""The admin page of the emulator in Chromium, controlled over the DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests
from interop_support import require_part

from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_SECONDS = 30
READY = "document.readyState === 'complete' && typeof load === 'function'"
REFRESHED = "new Promise((done) => setTimeout(done, 1500))"

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]

Evaluate = Callable[[str], Awaitable[Any]]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(key_vault=False, admin_port=0, resources=["*"]) as running:
        yield running


@pytest.fixture
def devtools(tmp_path: Path) -> Iterator[Path]:
    """Start a browser; yields the file with the port of its DevTools."""
    assert CHROMIUM is not None
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,800",
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path / 'profile'}",
        "about:blank",
    ]
    # Chromium must not write to the home directory of the user who runs the tests.
    environment = {**os.environ, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(
        [CHROMIUM, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as browser:
        try:
            yield tmp_path / "profile" / "DevToolsActivePort"
        finally:
            browser.kill()


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until a condition is true and return its result."""
    for _ in range(TIMEOUT_SECONDS * 20):
        if result := await condition():
            return result
        await asyncio.sleep(0.05)
    pytest.fail("The condition was not met in time.")


async def browse(
    port_file: Path,
    url: str,
    visit: Callable[[Evaluate], Awaitable[None]],
    settings: Iterable[tuple[str, Any]] = (),
) -> None:
    """Visit a page; ``settings`` are commands of the DevTools to send first."""

    def read() -> str:
        return port_file.read_text() if port_file.exists() else ""

    async def port_line() -> str:
        return await asyncio.to_thread(read)

    port = (await until(port_line)).split()[0]
    async with aiohttp.ClientSession() as session:
        opened = await session.put(f"http://127.0.0.1:{port}/json/new?{url}")
        target = (await opened.json())["webSocketDebuggerUrl"]
        numbers = itertools.count(1)
        async with session.ws_connect(target) as socket:

            async def evaluate(expression: str) -> Any:
                number = next(numbers)
                parameters = {
                    "expression": expression, "returnByValue": True, "awaitPromise": True,
                }  # fmt: skip
                await send(number, "Runtime.evaluate", parameters)
                while (message := await socket.receive_json()).get("id") != number:
                    pass
                return message.get("result", {}).get("result", {}).get("value")

            async def send(number: int, method: str, parameters: Any) -> None:
                await socket.send_json({"id": number, "method": method, "params": parameters})

            for method, parameters in settings:
                await send(next(numbers), method, parameters)
            await until(lambda: evaluate(READY))
            await visit(evaluate)


def request_token(
    emulator: Emulator, resource: str = "https://vault.azure.net"
) -> requests.Response:
    return requests.get(
        emulator.endpoint + "/metadata/identity/oauth2/token",
        params={"api-version": "2018-02-01", "resource": resource},
        headers={"Metadata": "true"},
        timeout=10,
    )


def run(coroutine: Any) -> None:
    asyncio.run(coroutine)


def visit_page(
    emulator: Emulator,
    devtools: Path,
    visit: Callable[[Evaluate], Awaitable[None]],
    query: str = "",
    settings: Iterable[tuple[str, Any]] = (),
) -> None:
    assert emulator.admin_url is not None
    run(browse(devtools, f"{emulator.admin_url}/{query}", visit, settings))


def press(key: str) -> str:
    event = f"new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}})"
    return f"document.activeElement.dispatchEvent({event})"


def test_requests_appear_and_are_escaped(emulator: Emulator, devtools: Path) -> None:
    attack = "<img src=x onerror=document.title='stolen'>"

    async def visit(evaluate: Evaluate) -> None:
        field = "document.querySelector('#fault input')"
        await evaluate("document.querySelector('#custom-fault').open = true")
        await evaluate(f"{field}.value = 'being typed'; {field}.focus()")
        token = (await asyncio.to_thread(request_token, emulator, attack)).json()["access_token"]
        await until(lambda: evaluate("document.querySelector('#rows')?.innerText.includes('img')"))
        assert await evaluate("document.title") == "imds-identity emulator"
        assert await evaluate("document.querySelectorAll('img').length") == 0
        assert await evaluate(f"{field}.value") == "being typed"
        assert await evaluate(f"document.activeElement === {field}")
        assert await evaluate("document.querySelector('#custom-fault').open")
        assert token not in await evaluate("document.documentElement.outerHTML")
        assert await evaluate("getComputedStyle(document.querySelector('tr')).display") == "grid"

    visit_page(emulator, devtools, visit, "?view=faults")


def test_search_covers_all_requests_and_open_request_stays_open(
    emulator: Emulator, devtools: Path
) -> None:
    request_token(emulator, "https://oldest.example")
    for _ in range(120):
        request_token(emulator)

    async def visit(evaluate: Evaluate) -> None:
        rows = "document.querySelectorAll('#rows tr').length"
        count = "document.getElementById('count').innerText"
        assert await evaluate(rows) == 100
        assert await evaluate(count) == "100 of 121 requests"
        field = "document.querySelector('[name=search]')"
        await evaluate(f"{field}.value = 'oldest'")
        await evaluate(f"{field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
        await until(lambda: evaluate(f"{rows} === 1"))
        assert await evaluate(count) == "1 of 1 matching requests, 121 in all"
        await evaluate("document.querySelector('#rows a').click()")
        details = "document.querySelector('#pane-1')"
        await until(lambda: evaluate(f"{details}?.innerText.includes('appid')"))
        await evaluate(f"window.kept = {details}")
        await asyncio.to_thread(request_token, emulator, "https://oldest.example/")
        await until(lambda: evaluate(f"{rows} === 2"))
        assert await evaluate(f"window.kept === {details} && window.kept.isConnected")
        await evaluate("history.back()")
        await until(lambda: evaluate(f"!{details}"))

    visit_page(emulator, devtools, visit)


def test_pause_stops_the_list_until_it_is_resumed(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        await evaluate("document.getElementById('pause').click()")
        await asyncio.to_thread(request_token, emulator)
        await evaluate(REFRESHED)
        assert await evaluate("document.querySelectorAll('#rows tr').length") == 0
        await evaluate("document.getElementById('pause').click()")
        await until(lambda: evaluate("document.querySelectorAll('#rows tr').length === 1"))

    visit_page(emulator, devtools, visit)


def test_forms_set_faults_and_schedule_events(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        async def faults() -> Any:
            return emulator.faults

        async def events() -> Any:
            return emulator.events

        await evaluate("document.querySelector('#fault [name=status]').value = '418'")
        await evaluate("document.querySelector('#fault button').click()")
        ((_, fault),) = await until(faults)
        assert (fault.status, fault.times) == (418, 1)
        await until(lambda: evaluate("document.querySelector('.fault')?.innerText.includes('418')"))
        assert await evaluate("document.getElementById('announcement').innerText") == (
            "The fault was set."
        )
        assert (await asyncio.to_thread(request_token, emulator)).status_code == 418
        await until(lambda: evaluate("document.querySelector('#rows')?.innerText.includes('418')"))
        await evaluate("document.querySelector('header a[href*=events]').click()")
        await until(lambda: evaluate("!!document.querySelector('#event')"))
        await evaluate(
            "document.querySelector('#event [name=description]').value = 'from the page'"
        )
        await evaluate("document.querySelector('#event button').click()")
        (event,) = await until(events)
        assert (event.event_type, event.description) == ("Freeze", "from the page")

    visit_page(emulator, devtools, visit, "?view=faults")


def test_error_stays_next_to_its_field(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        async def faults() -> Any:
            return emulator.faults

        status = "document.querySelector('#fault [name=status]')"
        await evaluate("document.querySelector('#custom-fault').open = true")
        await evaluate(f"{status}.value = 'often'")
        await evaluate("document.querySelector('#fault button').click()")
        error = "document.querySelector('#fault [name=status]+.error')?.innerText"
        assert await until(lambda: evaluate(error)) == "This must be a whole number."
        await until(lambda: evaluate("document.activeElement.name === 'status'"))
        await evaluate(REFRESHED)
        assert await evaluate(f"{status}.value") == "often"
        assert await evaluate(error) == "This must be a whole number."
        assert emulator.faults == []
        await evaluate(f"{status}.value = '500'")
        await evaluate("document.querySelector('#fault button').click()")
        await until(faults)
        await until(lambda: evaluate("!document.querySelector('.error')"))

    visit_page(emulator, devtools, visit, "?view=faults")


def test_reset_asks_first(emulator: Emulator, devtools: Path) -> None:
    request_token(emulator)

    async def visit(evaluate: Evaluate) -> None:
        async def is_empty() -> bool:
            return not emulator.requests

        question = "document.querySelector('#ask-reset')"
        for label in ("Cancel", "Reset"):
            await evaluate("document.querySelector('[popovertarget=ask-reset]').click()")
            assert await evaluate(f"{question}.matches(':popover-open')")
            assert await evaluate("document.activeElement.innerText") == "Cancel"
            assert len(emulator.requests) == 1
            await evaluate(
                f"[...{question}.querySelectorAll('button')]"
                f".find((each) => each.innerText === '{label}').click()"
            )
        await until(is_empty)
        await until(lambda: evaluate("document.body.innerText.includes('No requests yet')"))

    visit_page(emulator, devtools, visit)


def test_page_can_be_used_with_the_keyboard(emulator: Emulator, devtools: Path) -> None:
    for _ in range(3):
        request_token(emulator)

    async def visit(evaluate: Evaluate) -> None:
        await evaluate(press("/"))
        assert await evaluate("document.activeElement.name") == "search"
        await evaluate("document.querySelector('#r3 a').focus()")
        await evaluate(press("ArrowDown"))
        assert await evaluate("document.activeElement.closest('tr').id") == "r2"
        await evaluate("document.activeElement.click()")
        await until(lambda: evaluate("document.activeElement.id === 'pane-2'"))
        await evaluate("document.querySelector('#r2 a').focus()")
        await evaluate(press("ArrowDown"))
        await until(lambda: evaluate("!!document.querySelector('#pane-1')"))
        await evaluate(press("Escape"))
        await until(lambda: evaluate("!document.querySelector('.pane')"))
        assert await evaluate("document.activeElement.closest('tr').id") == "r1"
        controls = "[...document.querySelectorAll('a, button, input:not([type=hidden]), select')]"
        assert await evaluate(f"{controls}.filter(e => e.tabIndex < 0).length") == 0

    visit_page(emulator, devtools, visit)


def test_copy_button_copies_the_text(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        # A headless browser does not allow clipboard access, so the call is replaced.
        await evaluate(
            "Object.defineProperty(navigator, 'clipboard',"
            " {value: {writeText: async (text) => { window.written = text; }}})"
        )
        await evaluate("document.querySelector('.copyable [data-copy]').click()")
        written = await until(lambda: evaluate("window.written"))
        assert f"AZURE_POD_IDENTITY_AUTHORITY_HOST={emulator.endpoint}" in written

    visit_page(emulator, devtools, visit)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_accessibility_violations(
    emulator: Emulator, devtools: Path, scheme: str, width: int
) -> None:
    axe = require_part("npm") / "npm/node_modules/axe-core/axe.min.js"
    request_token(emulator)
    emulator.fault(status=500, times=2)
    request_token(emulator)
    emulator.schedule_event()

    async def visit(evaluate: Evaluate) -> None:
        await evaluate(axe.read_text())
        views = ("", "1", "2", "faults", "events", "identities", "tokens", "settings")
        for query in (*(f"view={view}" for view in views), "search=nothing"):
            await evaluate(f"visit('/?{query}')")
            await evaluate("document.querySelectorAll('details').forEach((e) => e.open = true)")
            found = await evaluate(
                "axe.run(document, {resultTypes: ['violations']}).then((result) =>"
                " result.violations.map((each) => [each.id, each.nodes[0].html]))"
            )
            assert found == [], query
            assert await evaluate("document.documentElement.scrollWidth") <= width

    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    settings = [
        ("Emulation.setDeviceMetricsOverride", size),
        ("Emulation.setEmulatedMedia", {"features": features}),
    ]
    visit_page(emulator, devtools, visit, "", settings)

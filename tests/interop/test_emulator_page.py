"""The admin page of the emulator in Chromium, controlled over the DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests

from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT_SECONDS = 30

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


async def browse(port_file: Path, url: str, visit: Callable[[Evaluate], Awaitable[None]]) -> None:
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
                parameters = {"expression": expression, "returnByValue": True}
                await socket.send_json(
                    {"id": number, "method": "Runtime.evaluate", "params": parameters}
                )
                while (message := await socket.receive_json()).get("id") != number:
                    pass
                return message.get("result", {}).get("result", {}).get("value")

            await until(lambda: evaluate("document.readyState === 'complete' && !!window.live"))
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


def test_requests_appear_and_are_escaped(emulator: Emulator, devtools: Path) -> None:
    attack = "<img src=x onerror=document.title='stolen'>"

    async def visit(evaluate: Evaluate) -> None:
        await evaluate("document.querySelector('#fault input').value = 'being typed'")
        token = (await asyncio.to_thread(request_token, emulator, attack)).json()["access_token"]
        text = "document.getElementById('live').innerText"
        await until(lambda: evaluate(f"{text}.includes('onerror')"))
        assert await evaluate("document.title") == "imds-identity emulator"
        assert await evaluate("document.querySelectorAll('img').length") == 0
        assert await evaluate("document.querySelector('#fault input').value") == "being typed"
        assert token not in await evaluate("document.documentElement.outerHTML")
        assert await evaluate(
            "getComputedStyle(document.querySelector('table')).borderCollapse"
        ) == ("collapse")
        await evaluate("filter.value = 'no such word'; filter.dispatchEvent(new Event('input'))")
        assert await evaluate("document.querySelectorAll('.requests li:not([hidden])').length") == 0

    assert emulator.admin_url is not None
    run(browse(devtools, emulator.admin_url + "/", visit))


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
        assert (await asyncio.to_thread(request_token, emulator)).status_code == 418
        await until(lambda: evaluate("document.readyState === 'complete' && !!window.live"))
        await until(lambda: evaluate("document.querySelector('#live').innerText.includes('418')"))
        await evaluate(
            "document.querySelector('#event [name=description]').value = 'from the page'"
        )
        await evaluate("document.querySelector('#event button').click()")
        (event,) = await until(events)
        assert (event.event_type, event.description) == ("Freeze", "from the page")

    assert emulator.admin_url is not None
    run(browse(devtools, emulator.admin_url + "/", visit))


def test_error_is_shown_next_to_its_field(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        await evaluate("document.querySelector('#fault [name=status]').value = 'often'")
        await evaluate("document.querySelector('#fault button').click()")
        error = "document.querySelector('#fault [name=status]+.error')?.innerText"
        assert await until(lambda: evaluate(error)) == "This must be a whole number."
        assert await evaluate("document.querySelector('#fault [name=status]').value") == "often"
        await until(lambda: evaluate("document.activeElement.name === 'status'"))
        assert emulator.faults == []

    assert emulator.admin_url is not None
    run(browse(devtools, emulator.admin_url + "/", visit))


def test_page_can_be_used_with_the_keyboard(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        press = "new KeyboardEvent('keydown', {key: '/', bubbles: true})"
        await evaluate(f"document.body.dispatchEvent({press})")
        assert await evaluate("document.activeElement.id") == "filter"
        controls = "[...document.querySelectorAll('a, button, input:not([type=hidden]), select')]"
        assert await evaluate(f"{controls}.filter(e => e.tabIndex < 0).length") == 0
        nameless = "e => e.labels && !e.labels.length && !e.ariaLabel && !e.textContent"
        assert await evaluate(f"{controls}.filter({nameless}).map(e => e.outerHTML).join()") == ""

    assert emulator.admin_url is not None
    run(browse(devtools, emulator.admin_url + "/", visit))


def test_copy_button_copies_the_text(emulator: Emulator, devtools: Path) -> None:
    async def visit(evaluate: Evaluate) -> None:
        # A headless browser does not allow clipboard access, so the call is replaced.
        await evaluate(
            "Object.defineProperty(navigator, 'clipboard',"
            " {value: {writeText: async (text) => { window.written = text; }}})"
        )
        await evaluate("document.querySelector('#identities .copyable [data-copy]').click()")
        written = await until(lambda: evaluate("window.written"))
        assert f"AZURE_POD_IDENTITY_AUTHORITY_HOST={emulator.endpoint}" in written

    assert emulator.admin_url is not None
    run(browse(devtools, emulator.admin_url + "/", visit))

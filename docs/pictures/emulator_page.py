"""Take screenshots of the emulator's admin page with headless Chromium.

python docs/pictures/emulator_page.py docs/images
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import tempfile
from pathlib import Path

import requests

from imds_identity import ManagedIdentityCredential
from imds_identity._platform.environment import patched_environ
from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator
from imds_identity.errors import ManagedIdentityError

# Name, query, width, height, and Chromium's number for the color scheme.
PICTURES = (
    ("emulator-light", "view=9", 1280, 1000, 1),
    ("emulator-dark", "view=faults", 1280, 800, 0),
    ("emulator-phone", "", 500, 900, 1),
)
RESOURCES = ("vault.azure.net", "management.azure.com", "storage.azure.com", "database.windows.net")
CHROMIUM = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip


def main() -> None:
    """Create some activity and take each screenshot."""
    parser = argparse.ArgumentParser(description="Take screenshots of the emulator's admin page.")
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    with Emulator(admin_port=0) as emulator, patched_environ(emulator.environment()):
        emulator.schedule_event("Freeze", notice=900)
        create_activity(emulator)
        for name, query, width, height, scheme in PICTURES:
            url = f"{emulator.admin_url}/?{query}"
            take_screenshot(url, directory / f"{name}.png", (width, height), scheme)


def create_activity(emulator: Emulator) -> None:
    """Send requests, some of which fail."""
    named = DEFAULT_USER_ASSIGNED.client_id
    for resource in RESOURCES:
        ManagedIdentityCredential(cache="off").get_token(f"https://{resource}/.default")
        get_metadata(emulator, "instance?api-version=2021-02-01")
    credential = ManagedIdentityCredential(cache="off", client_id=named)
    token = credential.get_token("https://vault.azure.net/.default").token
    for _ in range(3):
        requests.get(
            f"{emulator.key_vault.url}/secrets/greeting?api-version=7.5",
            headers={"Authorization": f"Bearer {token}"},
            verify=emulator.key_vault.ca_file,
            timeout=10,
        )
    emulator.fault(status=429, retry_after=1, times=3)
    emulator.fault(category="instance", status=410, seconds=70)
    emulator.fault(reset=True, probability=0.1, after=5)
    with contextlib.suppress(ManagedIdentityError):
        ManagedIdentityCredential(cache="off", retry_total=0, client_id="unknown").get_token(
            "https://vault.azure.net/.default"
        )
    get_metadata(emulator, "instance?api-version=2021-02-01")
    get_metadata(emulator, "scheduledevents?api-version=2020-07-01")


def get_metadata(emulator: Emulator, path: str) -> None:
    """Send a request for metadata."""
    url = f"{emulator.endpoint}/metadata/{path}"
    requests.get(url, headers={"Metadata": "true"}, timeout=10)


def take_screenshot(url: str, file: Path, size: tuple[int, int], scheme: int) -> None:
    """Take a screenshot of a page."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603
            [
                *CHROMIUM, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}",
                f"--blink-settings=preferredColorScheme={scheme}", "--timeout=3000",
                f"--screenshot={file}", url,
            ],
            check=True, timeout=120, stderr=subprocess.DEVNULL,
        )  # fmt: skip


if __name__ == "__main__":
    main()

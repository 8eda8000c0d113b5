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
from imds_identity.emulator import Emulator
from imds_identity.errors import ManagedIdentityError

# Name, width, height, and Chromium's number for the color scheme.
PICTURES = (
    ("emulator-light", 1280, 945, 1),
    ("emulator-dark", 1280, 945, 0),
    ("emulator-phone", 500, 1400, 1),
)
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
        for name, width, height, scheme in PICTURES:
            take_screenshot(
                f"{emulator.admin_url}/", directory / f"{name}.png", (width, height), scheme
            )


def create_activity(emulator: Emulator) -> None:
    """Send requests, some of which fail."""
    for resource in ("vault.azure.net", "management.azure.com", "storage.azure.com"):
        ManagedIdentityCredential(cache="off").get_token(f"https://{resource}/.default")
    emulator.fault(status=429, retry_after=1, times=3)
    emulator.fault(category="instance", status=410, seconds=70)
    emulator.fault(reset=True, probability=0.1, after=5)
    with contextlib.suppress(ManagedIdentityError):
        ManagedIdentityCredential(cache="off", retry_total=0, client_id="unknown").get_token(
            "https://vault.azure.net/.default"
        )
    requests.get(
        f"{emulator.endpoint}/metadata/instance?api-version=2021-02-01",
        headers={"Metadata": "true"},
        timeout=10,
    )


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

"""Types and helpers that the emulator's tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

from imds_identity.emulator import Emulator

VAULT = "https://vault.azure.net"
Ask = Callable[..., requests.Response]
Start = Callable[..., Emulator]
Claims = dict[str, Any]

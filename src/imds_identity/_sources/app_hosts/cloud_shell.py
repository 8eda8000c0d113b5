"""Azure Cloud Shell, whose identity is the user's own."""

from __future__ import annotations

from .source import build
from .spec import AppHostSpec

CLOUD_SHELL = AppHostSpec("cloud-shell", "Cloud Shell", build, "MSI_ENDPOINT", sends_form=True)

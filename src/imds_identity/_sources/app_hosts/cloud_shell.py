"""Azure Cloud Shell, whose identity is the user's own."""

from __future__ import annotations

from .app_host import AppHostSpec

CLOUD_SHELL = AppHostSpec("cloud-shell", "Cloud Shell", "MSI_ENDPOINT")

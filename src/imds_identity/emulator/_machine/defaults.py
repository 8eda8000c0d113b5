"""The default values of a machine's instance document, from ``defaults.json``."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_DOCUMENTS = json.loads(files(__package__).joinpath("defaults.json").read_text("utf-8"))
DEFAULT_TAGS: Mapping[str, str] = _DOCUMENTS["tags"]
DEFAULT_NETWORK: Mapping[str, object] = _DOCUMENTS["network"]
DEFAULT_LOAD_BALANCER: Mapping[str, object] = _DOCUMENTS["load_balancer"]
DEFAULT_COMPUTE: Mapping[str, object] = _DOCUMENTS["compute"]
WINDOWS_COMPUTE: Mapping[str, object] = _DOCUMENTS["windows_compute"]
DEFAULT_DATA_DISK: Mapping[str, object] = _DOCUMENTS["data_disk"]

"""A file put in the place of another, at once."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from .clock import SYSTEM_CLOCK

# Seconds, two in all. Windows replaces no file that somebody has open, be it to read it.
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.6)


def replace(source: str, target: str, directory: int | None = None) -> None:
    """Put ``source`` in the place of ``target``.

    Args:
        source: a path.
        target: likewise.
        directory: a descriptor that both are relative to.

    Raises:
        OSError: if it cannot be done.
    """
    if sys.platform == "win32":
        for pause in _PAUSES:
            with suppress(PermissionError):
                return os.replace(source, target)
            SYSTEM_CLOCK.sleep(pause)
    return os.replace(source, target, src_dir_fd=directory, dst_dir_fd=directory)

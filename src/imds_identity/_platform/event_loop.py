"""The running event loop."""

from __future__ import annotations

import asyncio


def running_loop(alternative: str) -> asyncio.AbstractEventLoop:
    """Return asyncio's running event loop.

    Args:
        alternative: the sync function for programs without asyncio.

    Raises:
        RuntimeError: if there is none, as under trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise RuntimeError(
        "there is no running asyncio event loop, and this class works with asyncio only. Under "
        f"trio, run the sync function in a thread: await trio.to_thread.run_sync({alternative})"
    )

"""Runs cells that request tokens in a Jupyter kernel; prints digests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Callable

SETUP = """
import asyncio, json, warnings
warnings.simplefilter("error")
from token_jobs import *
credential = imds_identity.ManagedIdentityCredential()
aio_credential = imds_identity.aio.ManagedIdentityCredential()
"""
BEFORE = """
digests = [await aio_job(aio_credential), *await tasks_job(aio_credential)]
digests += [sync_job(credential), *threads_job(credential)]
"""
INTERRUPTED = """
print("started", flush=True)
sync_job(credential)
"""
# With nest_asyncio, a running loop may run another coroutine to its end.
AFTER = """
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nest_asyncio uses deprecated functions
    import nest_asyncio
    nest_asyncio.apply()
new = imds_identity.aio.ManagedIdentityCredential()
digests.append(asyncio.run(aio_job(new)))
digests += asyncio.get_event_loop().run_until_complete(tasks_job(new))

async def nested():
    return asyncio.run(aio_job(new))

digests += await asyncio.gather(nested(), nested(), aio_job(new))
digests += [sync_job(credential), *threads_job(credential)]
print(json.dumps({"digests": digests}))
warnings.resetwarnings()  # the kernel warns about itself when it stops
"""


def run(client: Any, code: str, interrupt: Callable[[], object] | None = None) -> str:
    """Run a cell and return what it prints; interrupt it when it prints something."""
    output: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] in ("stream", "error"):
            output.append(content.get("text") or "\n".join(content["traceback"]))
            if interrupt and message["msg_type"] == "stream":
                interrupt()

    client.execute_interactive(code, output_hook=collect, timeout=60)
    return "".join(output)


def main() -> None:
    """Run the cells in a new kernel."""
    manager = KernelManager(transport="ipc")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        setup = run(client, SETUP)
        interrupted = run(client, INTERRUPTED, manager.interrupt_kernel)
        if "KeyboardInterrupt" not in interrupted:
            sys.exit(interrupted)
        print(setup + run(client, BEFORE) + run(client, AFTER), end="")
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


if __name__ == "__main__":
    main()

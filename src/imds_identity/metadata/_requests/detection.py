"""Detection of Azure VMs, for programs that must not wait for a timeout elsewhere."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ..._core.failure import Failure, Reason
from ..._core.source import IMDS
from ..._http.retry_options import RetryOptions
from ..._http.runner import ExchangeRunner
from ..._http.transport import direct_sender
from ..._platform.clock import SYSTEM_CLOCK
from ..._sources.firmware import firmware
from ..._sources.registry import detect as detect_source
from ..errors import error_from
from . import exchanges
from .endpoint import ServiceEndpoint
from .versions import is_version

if TYPE_CHECKING:
    from ..._http.messages import Request, Response
    from ..._platform.clock import Clock
    from ..._sources.firmware import Firmware

SECONDS = 5.0
"""The default timeout. The first response of the service may take seconds."""
SECONDS_ELSEWHERE = 0.25
"""The default timeout if the firmware is not Azure's: an emulator responds faster."""
_CONNECT_SECONDS = 0.5


def detect(*, endpoint: str | None = None, seconds: float | None = None) -> bool:
    """Return whether this is an Azure VM.

    The firmware identifies an Azure VM immediately. If it does not, for example in a
    container that hides it, one request asks the metadata service for its API versions. Neither an
    Azure Arc agent nor another cloud's service at the same address supports this request.
    ``False`` may also mean that the service has not started yet: see `MetadataClient.require`.

    Args:
        endpoint: the URL of a service to check instead of the firmware; by default the environment
            variable ``AZURE_POD_IDENTITY_AUTHORITY_HOST``.
        seconds: the timeout of the request; by default 5 seconds, because the first response of
            the service may take that long, or 0.25 seconds if the firmware is not Azure's. A
            service that does not accept a connection within half a second does not exist.

    Returns:
        Whether this is an Azure VM, or ``endpoint`` is Azure's metadata service.

    Raises:
        MetadataError: if this process has no file descriptor or memory left for the request.
        ValueError: if ``seconds`` is not positive.
    """
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be a positive number, not {seconds!r}")
    source = detect_source(IMDS)
    base = source.endpoint.partition("/metadata/")[0]
    configured = endpoint or (source.variable and base) or None
    return _is_azure_vm(configured, firmware(), base, seconds)


def _is_azure_vm(
    configured: str | None, vendor: Firmware, default: str, seconds: float | None = None
) -> bool:
    if configured is None and vendor.is_azure is not None:
        return vendor.is_azure
    usual = SECONDS_ELSEWHERE if vendor.is_azure is False else SECONDS
    return is_azure_service(configured or default, usual if seconds is None else seconds)


def is_azure_service(endpoint: str, seconds: float = SECONDS, clock: Clock = SYSTEM_CLOCK) -> bool:
    """Return whether Azure's metadata service responds at an http URL within ``seconds``."""
    if not endpoint.startswith("http://"):  # the service does not support TLS
        return False
    service = ServiceEndpoint(endpoint.rstrip("/"), random.random, retry=False)
    try:
        with direct_sender(clock) as direct:

            def send(request: Request) -> Response:
                request.connect_seconds = _CONNECT_SECONDS
                return direct(request)

            options = RetryOptions(seconds=seconds)
            runner = ExchangeRunner(send, clock, retry_options=options)
            versions = runner.run(exchanges.versions(service))
    except Failure as failure:
        if failure.reason is not Reason.LOCAL_RESOURCES:
            return False
        reason = failure
    else:
        return any(map(is_version, versions))
    raise error_from(reason)

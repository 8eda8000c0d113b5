"""gevent and eventlet replace functions and classes of the standard library at any time."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.failure import Unavailable
from imds_identity._http.messages import Request
from imds_identity._http.requests_transport import BoundedAdapter, send_by_requests
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._platform.threads import run_in_thread
from support import TlsServer

if TYPE_CHECKING:
    from pathlib import Path

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("is_internal", [False, True])
def test_sleep_is_looked_up_when_it_is_used(
    is_internal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    if is_internal:
        run_in_thread(lambda: SYSTEM_CLOCK.sleep(0.01), 10)
    else:
        SYSTEM_CLOCK.sleep(0.01)
    assert slept


def _request(server: TlsServer, certificate: str = "") -> Request:
    return Request(server.url, {}, certificate=certificate, over_internet=not certificate)


def _replace_context_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the class of TLS contexts as gevent does, after urllib3 was imported.

    The setters of the original class find the class by its global name. So those of the new class
    skip the original one, whose own instances no longer work.
    """
    original: Any = ssl.SSLContext

    def property_of(name: str) -> Any:
        return property(
            lambda self: getattr(super(original, self), name),
            lambda self, value: getattr(super(original, original), name).__set__(self, value),
        )

    class Context(original):  # type: ignore[misc]
        options = property_of("options")
        verify_flags = property_of("verify_flags")
        verify_mode = property_of("verify_mode")
        minimum_version = property_of("minimum_version")
        maximum_version = property_of("maximum_version")

    monkeypatch.setattr(ssl, "SSLContext", Context)


@pytest.mark.parametrize("by_thumbprint", [False, True])
def test_tls_works_after_the_class_of_its_contexts_was_replaced(
    by_thumbprint: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with TlsServer(tmp_path, OK) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", server.certificates)
        request = _request(server, server.thumbprint if by_thumbprint else "")
        _replace_context_class(monkeypatch)
        assert send_by_requests(request, SYSTEM_CLOCK).body == b"ok"


@pytest.mark.parametrize("certificate", ["", "0" * 40])
def test_untrusted_certificate_is_refused_after_the_class_of_contexts_was_replaced(
    certificate: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with TlsServer(tmp_path, OK) as server:
        request = _request(server, certificate)
        _replace_context_class(monkeypatch)
        with pytest.raises(Unavailable, match="certificate verification failed"):
            send_by_requests(request, SYSTEM_CLOCK)


def test_proxy_connections_use_the_replaced_class(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_context_class(monkeypatch)
    pools = BoundedAdapter(SYSTEM_CLOCK).proxy_manager_for("http://proxy:3128")
    assert type(pools.connection_pool_kw["ssl_context"]) is ssl.SSLContext

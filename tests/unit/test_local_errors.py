"""A process without file descriptors, threads, memory or modules is not a host without IMDS."""

from __future__ import annotations

import errno
import os
import socket
import sys
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._azure_core import base
from imds_identity._core.failure import Failure, Reason, Refused, SecretUnreadable, Unavailable
from imds_identity._http import connection as http_connection
from imds_identity._http.local_errors import local_failure, unexpected_failure
from imds_identity._http.messages import Request
from imds_identity._http.requests_transport import transport_error_from_requests
from imds_identity._http.transport import direct_sender
from imds_identity._http.transport_errors import transport_error_from
from imds_identity._platform.clock import SYSTEM_CLOCK
from imds_identity._platform.environment import Environment
from imds_identity._shared_cache import directory as directory_module
from imds_identity._shared_cache.directory import Directory
from imds_identity._shared_cache.namespace import Namespace, current_namespace
from imds_identity._shared_cache.record import Record
from imds_identity._shared_cache.store import SharedCache
from imds_identity._sources.arc import key_file, peer
from imds_identity._sources.token_proxy import token_proxy_of
from imds_identity._sources.workload import read_assertion
from imds_identity._token_cache.fetch import Fetch
from imds_identity.metadata import MetadataError, detect
from support import KEY, FakeClock, FakeService, new_token, no_jitter, shared_cache_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imds_identity._token_cache.cache import TokenCache
    from imds_identity._token_cache.entry import CacheEntry

REQUEST = Request("http://127.0.0.1:9/", {})
EXHAUSTED: list[Exception] = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "Too many open files in system"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    OSError(errno.ENOBUFS, "No buffer space available"),
    RuntimeError("can't start new thread"),
    MemoryError(),
]


def no_descriptors(*_: object, **__: object) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.fixture
def out_of_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can open neither sockets nor files, such as ``a.key``."""
    (tmp_path / "a.key").touch()
    monkeypatch.setattr(os, "open", no_descriptors)
    monkeypatch.setattr("builtins.open", no_descriptors)
    monkeypatch.setattr(socket, "socket", no_descriptors)


def wrapped_by_requests(cause: Exception) -> Exception:
    pool: Any = None
    reason = urllib3.exceptions.NewConnectionError(pool, f"no connection: {cause}")
    reason.__cause__ = cause
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", reason))


def wrapped_by_azure_core(cause: Exception) -> Exception:
    return ServiceRequestError("no connection", error=wrapped_by_requests(cause))


@pytest.mark.parametrize("error", EXHAUSTED, ids=str)
@pytest.mark.parametrize("wrap", [lambda e: e, wrapped_by_requests, wrapped_by_azure_core])
def test_missing_resources_are_recognized_however_they_are_wrapped(
    error: Exception, wrap: Callable[[Exception], Exception]
) -> None:
    for convert in (
        local_failure,
        unexpected_failure,
        lambda e: transport_error_from(e, REQUEST),
        lambda e: transport_error_from_requests(e, REQUEST),
    ):
        failure = convert(wrap(error))
        assert isinstance(failure, Refused)
        assert failure.reason is Reason.LOCAL_RESOURCES
        assert "out of files, threads or memory" in str(failure)
        assert failure.__cause__ is failure.__context__ is None


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        RuntimeError("the interpreter is shutting down"),
        KeyError("x"),
        wrapped_by_requests(ConnectionResetError(errno.ECONNRESET, "reset")),
    ],
)
def test_other_errors_are_not_a_lack_of_resources(error: Exception) -> None:
    assert local_failure(error) is None


def test_exceptions_that_refer_to_each_other_are_read_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert local_failure(first) is None


def test_search_for_the_cause_ends() -> None:
    error = ValueError(*(ValueError(number) for number in range(100)), MemoryError())
    assert local_failure(error) is None


@pytest.mark.usefixtures("out_of_descriptors")
@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        ModuleNotFoundError("No module named 'ssl'", name="ssl"),
    ],
)
def test_errors_that_hide_the_lack_of_descriptors_are_recognized(error: Exception) -> None:
    failure = local_failure(error)
    assert failure is not None
    assert failure.reason is Reason.LOCAL_RESOURCES


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ModuleNotFoundError("No module named 'msal'", name="msal"), "the module 'msal' cannot"),
        (ImportError("DLL load failed"), "a module cannot be imported: DLL load failed"),
    ],
)
def test_missing_module_is_named(error: Exception, text: str) -> None:
    for failure in (unexpected_failure(error), transport_error_from(error, REQUEST)):
        assert isinstance(failure, Refused)
        assert failure.reason is Reason.MISSING_MODULE
        assert text in str(failure)


class Unreadable(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise ValueError("x")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (KeyError("expires_on"), "KeyError: 'expires_on'"),
        (AttributeError("module 'azure.core.pipeline' has no 'Policy'"), "'azure.core.pipeline'"),
        (ValueError(), "ValueError: no text"),
        (Unreadable(), "Unreadable: its text cannot be read (ValueError)"),
        (ValueError("key 0cfa5a7f6d1e4b0d8a5b1c2d3e4f5a6b ends"), "key <hidden> ends"),
        (ValueError("Bearer abcdefghijk\n\x1b[31m"), "ValueError: <hidden> [31m"),
    ],
)
def test_unexpected_error_is_shown_with_type_and_text(error: Exception, shown: str) -> None:
    failure = unexpected_failure(error)
    assert failure.reason is Reason.INTERNAL_ERROR
    assert f"ended the fetch: {type(error).__name__}: " in str(failure)
    assert shown in str(failure)


@given(
    st.text(st.sampled_from("abcdefghijABCDEFGHIJ0123456789+-_="), min_size=24, max_size=300),
    st.sampled_from(["{}", "'{}'", "token {}, x", '{{"a": "{}"}}', "\n{}\n"]),
)
def test_text_of_an_unexpected_error_shows_no_key(key: str, template: str) -> None:
    key = f"{key[:11]}0{key[12:]}"
    assert key not in str(unexpected_failure(ValueError(template.format(key))))


@pytest.mark.usefixtures("out_of_descriptors")
@pytest.mark.parametrize("host", ["127.0.0.1", "metadata.invalid"])
def test_request_without_a_descriptor_is_not_a_refused_connection(host: str) -> None:
    with direct_sender(SYSTEM_CLOCK) as send, pytest.raises(Refused) as caught:
        send(Request(f"http://{host}:9/", {}))
    assert caught.value.reason is Reason.LOCAL_RESOURCES


def test_name_is_not_resolved_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(http_connection, "start_thread", no_thread)
    with direct_sender(SYSTEM_CLOCK) as send, pytest.raises(Refused) as caught:
        send(Request("http://metadata.invalid/", {}))
    assert caught.value.reason is Reason.LOCAL_RESOURCES


@pytest.mark.skipif(sys.platform != "linux", reason="the listener is found in another way")
@pytest.mark.usefixtures("out_of_descriptors")
def test_arc_key_file_and_listener_are_not_blamed(tmp_path: Path) -> None:
    for read in (
        lambda: key_file.read_secret(str(tmp_path / "a.key"), str(tmp_path)),
        lambda: peer.confirm(40342),
        peer._agent_uid,
    ):
        with pytest.raises(Failure) as caught:
            read()
        assert not isinstance(caught.value, SecretUnreadable)
        assert caught.value.reason is Reason.LOCAL_RESOURCES


@pytest.mark.usefixtures("out_of_descriptors")
def test_token_file_of_a_workload_is_not_blamed(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        read_assertion(str(tmp_path / "token"))
    assert caught.value.reason is Reason.LOCAL_RESOURCES


@pytest.mark.usefixtures("out_of_descriptors")
def test_certificates_of_a_token_proxy_are_not_blamed(tmp_path: Path) -> None:
    variables = {
        "AZURE_KUBERNETES_TOKEN_PROXY": "https://proxy.example",
        "AZURE_KUBERNETES_CA_FILE": str(tmp_path / "ca.pem"),
    }
    proxy = token_proxy_of(Environment(variables))
    assert proxy is not None
    with pytest.raises(Failure) as caught:
        proxy.server_tls()
    assert caught.value.reason is Reason.LOCAL_RESOURCES


@pytest.mark.usefixtures("out_of_descriptors")
def test_detection_does_not_take_it_for_another_machine() -> None:
    with pytest.raises(MetadataError, match="Too many open files") as caught:
        detect(endpoint="http://127.0.0.1:9")
    assert caught.value.reason_code == "local-resources"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no directory in memory")
def test_shared_directory_is_used_once_there_are_descriptors_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"/dev/shm/imds-identity-test-{uuid.uuid4()}"
    directory = Directory(lambda: [path], in_memory=True)
    for broken in ("os.open", "builtins.open"):
        with monkeypatch.context() as context:
            context.setattr(broken, no_descriptors)
            assert not directory.usable()
            assert directory.stat("x") is None
    try:
        assert directory.usable()
    finally:
        with suppress(OSError):
            os.rmdir(path)


def test_shared_cache_raises_nothing_without_descriptors(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_cache = SharedCache(Directory.at(str(tmp_path / "cache")), clock)
    with monkeypatch.context() as context:
        for broken in ("os.open", "builtins.open", "socket.socket"):
            context.setattr(broken, no_descriptors)
        assert shared_cache.version(KEY) is None
        assert shared_cache.read(KEY) is None
        name = shared_cache.name_of(KEY)
        with shared_cache.leased(name) as lease:
            assert lease is None
    expected = SharedCache(Directory.at(str(tmp_path)), clock, current_namespace())
    assert shared_cache.name_of(KEY) == expected.name_of(KEY)


def test_shared_cache_raises_nothing_without_memory(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    shared_cache = SharedCache(Directory.at(str(tmp_path / "cache")), clock, Namespace())
    with monkeypatch.context() as context:
        context.setattr(directory_module, "open_or_create_directory", no_memory)
        assert not shared_cache.usable()
        assert shared_cache.version(KEY) is None
        assert shared_cache.read(KEY) is None
        shared_cache.write(Record(KEY, new_token(clock)))
        with shared_cache.leased(shared_cache.name_of(KEY)) as lease:
            assert lease is None
    assert shared_cache.usable()


def out_of_resources() -> Refused:
    return Refused("no files", reason=Reason.LOCAL_RESOURCES)


def test_lack_of_resources_is_not_reported_to_other_processes(
    tmp_path: Path, clock: FakeClock, service: FakeService, entry: CacheEntry
) -> None:
    shared_cache = shared_cache_in(tmp_path / "cache", clock)
    service.error = out_of_resources()
    fetch = Fetch(entry, None, lambda _: service(), shared_cache, no_jitter)
    with pytest.raises(Refused):
        fetch()
    assert shared_cache.read(KEY) is None
    service.error = Unavailable("refused")
    with pytest.raises(Unavailable):
        fetch()
    assert shared_cache.read(KEY) is not None


@pytest.mark.parametrize("claims", [None, '{"access_token": {"nbf": {"value": "1"}}}'])
def test_lack_of_resources_is_not_remembered(
    token_cache: TokenCache, entry: CacheEntry, service: FakeService, claims: str | None
) -> None:
    service.error = out_of_resources()
    with pytest.raises(Refused, match="no files"):
        token_cache.get(entry, service, claims)
    service.error = None
    assert token_cache.get(entry, service, claims).value == "token-2"


@pytest.fixture
def service(clock: FakeClock) -> FakeService:
    return FakeService(clock)


@pytest.fixture
def entry(token_cache: TokenCache) -> CacheEntry:
    return token_cache.entry(KEY)


@pytest.mark.parametrize(("depth", "is_found"), [(20, True), (21, False)])
def test_a_few_wrapped_exceptions_are_examined(depth: int, is_found: bool) -> None:
    error: Exception = OSError(errno.EMFILE, "Too many open files")
    for _ in range(depth - 1):
        error = Exception(error)
    assert (local_failure(error) is not None) is is_found


@pytest.mark.parametrize(
    ("error", "is_hidden"),
    [
        (ModuleNotFoundError("no azure"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (TimeoutError("a signal handler's"), False),
        (KeyError("a signal handler's"), False),
    ],
)
def test_only_a_failed_import_is_less_important_than_the_failure(
    monkeypatch: pytest.MonkeyPatch, error: Exception, is_hidden: bool
) -> None:
    def raise_error(*_args: object) -> None:
        raise error

    monkeypatch.setattr(base, "run_imports", raise_error)
    failure = Refused("refused", reason=Reason.REFUSED)
    if is_hidden:
        assert str(base.error_from(failure)) == str(failure)
    else:
        with pytest.raises(type(error)):
            base.error_from(failure)

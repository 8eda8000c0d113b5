from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from emulator.support import VAULT
from imds_identity.emulator import (
    DEFAULT_SYSTEM_ASSIGNED,
    Emulator,
    RecordedRequest,
    SystemAssigned,
    UserAssigned,
)

if TYPE_CHECKING:
    from emulator.support import Send, Start

ONE = UserAssigned.named("one")


def test_stop_removes_files_and_threads(
    request_token: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = threading.active_count()
    with Emulator("arc") as emulator:
        request_token(emulator)
        assert emulator.key_vault.ca_file.startswith(str(tmp_path))
        endpoint = emulator.endpoint
    assert threading.active_count() == before
    assert os.listdir(tmp_path) == []
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(endpoint)


def test_stop_does_not_wait_for_pending_requests() -> None:
    with Emulator(key_vault=False) as emulator:
        emulator.fault(category="*", delay=600)
        host, port = emulator.endpoint.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while not emulator.requests:
            pass
    with client:
        assert client.recv(1) == b""


def test_it_can_be_started_again(request_token: Send) -> None:
    emulator = Emulator(key_vault=False)
    for _ in range(2):
        with emulator:
            assert request_token(emulator).status_code == 200
    emulator.stop()


def test_several_emulators_run_at_the_same_time(start_emulator: Start, request_token: Send) -> None:
    emulators = [start_emulator() for _ in range(8)]
    for emulator in emulators:
        assert request_token(emulator).status_code == 200
    assert [len(emulator.requests) for emulator in emulators] == [1] * 8


def test_error_says_that_it_is_not_running() -> None:
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.endpoint
    with emulator, pytest.raises(RuntimeError, match="already running"):
        emulator.start()
    with Emulator(key_vault=False) as bare, pytest.raises(RuntimeError, match="key_vault=False"):
        _ = bare.key_vault


def test_error_names_the_port_in_use(start_emulator: Start) -> None:
    port = int(start_emulator().endpoint.rpartition(":")[2])
    with pytest.raises(OSError, match=str(port)):
        Emulator(port=port).start()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "gcp"}, "profile"),
        ({"arc_agent": "ancient"}, "arc_agent"),
        ({"host": "0.0.0.0"}, "allow_remote=True"),
        ({"host": "localhost"}, "IP address"),
        ({"token_lifetime": 0}, "token_lifetime"),
        ({"newest_version": "2000-01-01"}, "2000-01-01"),
        ({"identities": [SystemAssigned(), SystemAssigned("a", "b")]}, "system-assigned"),
        ({"identities": [ONE, ONE]}, "same client_id"),
        ({"identities": [UserAssigned("", "b", "c")]}, "client_id is empty"),
        ({"identities": ["one"]}, "identities cannot hold 'one'"),
        ({"faults": "status=500"}, "faults must be a list"),
        ({"faults": [{"status": 500}]}, "faults cannot hold"),
        ({"events": ["Reboot"]}, "events cannot hold 'Reboot'"),
        ({"resources": "api://mine"}, "resources must be a list"),
        ({"allowed_hosts": "imds"}, "allowed_hosts must be a list"),
        ({"allowed_hosts": ["imds:16925"]}, "without a port; 'imds:16925' is not one"),
        ({"allowed_hosts": ["http://imds"]}, "allowed_hosts"),
        ({"allowed_hosts": ["one,two"]}, "allowed_hosts"),
        ({"port": "80"}, "port must be a whole number"),
        ({"port": True}, "port must be a whole number"),
        ({"limits": "off"}, "limits must be true or false"),
        ({"latency": float("nan")}, "latency must be a number, not nan"),
        ({"token_lifetime": None}, "token_lifetime must be"),
        ({"token_lifetime": 1.5}, "token_lifetime must be a whole number"),
        ({"machine": {"name": "web"}}, "machine"),
        ({"clock": 5}, "clock"),
    ],
)
def test_invalid_argument_is_rejected(arguments: Any, message: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Emulator(**arguments)


def test_environment_of_each_profile(start_emulator: Start) -> None:
    vm, arc, app = start_emulator(), start_emulator("arc"), start_emulator("app-service")
    assert vm.environment() == {
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": vm.endpoint,
        "IMDS_IDENTITY_CACHE": "off",
    }
    assert arc.environment() == {
        "IDENTITY_ENDPOINT": arc.endpoint + "/metadata/identity/oauth2/token",
        "IMDS_ENDPOINT": arc.endpoint,
        "IMDS_IDENTITY_CACHE": "off",
    }
    assert app.environment()["IDENTITY_ENDPOINT"] == app.endpoint + "/msi/token"
    assert app.environment()["IDENTITY_HEADER"]


def test_requests_are_logged_without_secrets(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    request_token(emulator, headers={"Authorization": "Basic hunter2", "X-Own": "shown"})
    (record,) = emulator.token_requests
    assert record.method == "GET"
    assert record.target.startswith("/metadata/identity/oauth2/token?")
    assert record.path == "/metadata/identity/oauth2/token"
    assert record.category == "identity"
    assert record.query["resource"] == "https://vault.azure.net"
    assert record.status == 200
    assert record.headers["metadata"] == "true"
    assert record.headers["x-own"] == "shown"
    assert "hunter2" not in repr(record)


def test_responses_are_logged_without_tokens(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    token = request_token(emulator).json()["access_token"]
    request_token(emulator, client_id="unknown")
    granted, refused = emulator.requests
    assert '"access_token":"(hidden)"' in granted.answer
    assert token[:20] not in repr(emulator.requests)
    assert "Identity not found" in refused.answer


def test_log_has_the_token_without_its_signature(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    token = request_token(emulator).json()["access_token"]
    request_token(emulator, client_id="unknown")
    granted, refused = emulator.requests
    assert granted.token == token.rpartition(".")[0]
    assert (granted.resource, granted.identity) == (VAULT, DEFAULT_SYSTEM_ASSIGNED.client_id)
    assert (refused.token, refused.resource, refused.identity) == ("", VAULT, "unknown")


def test_log_has_the_headers_of_a_response(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    sent = request_token(emulator).headers
    recorded = emulator.requests[0].response_headers
    assert recorded.items() <= sent.items()
    assert {"Content-Type", "Date", "Server"} <= recorded.keys()
    emulator.fault(reset=True)
    with pytest.raises(requests.ConnectionError):
        request_token(emulator)
    assert emulator.requests[1].response_headers == {}


@pytest.mark.parametrize(
    ("media_type", "body", "recorded"),
    [
        ("application/json", b'{"access_token": "hunter2"}', '{"access_token": "(hidden)"}'),
        (
            "application/json",
            b'{"access\\u005ftoken": ["hunter2"]}',
            '{"access_token": "(hidden)"}',
        ),
        ("application/json", b'{"client_secret": "a\\"hunter2"}', '{"client_secret": "(hidden)"}'),
        ("application/json", b'{"a" : "eyJh.eyJi.hunter2"}', '{"a" : "eyJh.eyJi.(hidden)"}'),
        ("application/json", b'{"client_secret": "hunter2"', "(hidden)"),
        (
            "application/json; charset=utf-16",
            '{"password": "a"}'.encode("utf-16"),
            '{"password": "(hidden)"}',
        ),
        (
            "application/x-www-form-urlencoded",
            b"scope=a/.default&client%5Fassertion=hunter2&client_id=b",
            "scope=a/.default&client_assertion=(hidden)&client_id=b",
        ),
        ("text/plain", b"hunter2", "(hidden)"),
    ],
)
def test_body_of_a_request_is_logged_without_secrets(
    start_emulator: Start, media_type: str, body: bytes, recorded: str
) -> None:
    emulator = start_emulator()
    headers = {"Content-Type": media_type}
    requests.post(emulator.endpoint + "/metadata/instance", body, headers=headers, timeout=10)
    (record,) = emulator.requests
    assert record.body == recorded
    assert "hunter2" not in repr(record)


def test_body_for_an_unknown_url_is_not_logged(start_emulator: Start) -> None:
    emulator = start_emulator()
    url = emulator.endpoint + "/secrets/name"  # of the Key Vault, at the wrong port
    requests.put(url, json={"value": "hunter2"}, timeout=10)
    assert emulator.requests[0].body == "(hidden)"


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/nothing?a=b&client%5Fsecret=hunter2&sig=hunter2", {}),
        ("/metadata/identity/oauth2/token?resource=eyJh.eyJi.hunter2", {"Metadata": "true"}),
        ("/eyJh.eyJi.hunter2", {}),
        ("/", {"X-Ms-Authorization-Auxiliary": "Bearer hunter2"}),
        ("/", {"X-Vault-Token": "hunter2", "X-Api-Key": "hunter2", "X-Own": "eyJh.eyJi.hunter2"}),
    ],
)
def test_request_is_logged_and_recorded_without_secrets(
    start_emulator: Start, tmp_path: Path, target: str, headers: dict[str, str]
) -> None:
    recording = tmp_path / "recording"
    emulator = start_emulator(record=recording)
    requests.get(emulator.endpoint + target, headers=headers, timeout=10)
    (record,) = emulator.requests
    assert "hunter2" not in repr(record) + recording.read_text()
    assert "(hidden)" in record.target or "(hidden)" in record.headers.values()


def test_log_has_client_and_duration_of_a_request(
    start_emulator: Start, request_token: Send
) -> None:
    emulator = start_emulator()
    emulator.fault(delay=0.05, times=1)
    request_token(emulator)
    request_token(emulator)
    slow = emulator.requests[0]
    assert slow.client == "127.0.0.1"
    assert slow.seconds is not None
    assert slow.seconds >= 0.05
    assert slow.effects == {"delay": 0.05}


def test_log_keeps_a_limited_number_of_requests(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator(log_size=3)
    for _ in range(5):
        request_token(emulator)
    assert [record.number for record in emulator.requests] == [3, 4, 5]


def test_failing_listener_does_not_affect_the_client(
    start_emulator: Start, request_token: Send, caplog: pytest.LogCaptureFixture
) -> None:
    emulator = start_emulator()
    emulator.on_request(lambda record: 1 // 0)
    assert request_token(emulator).status_code == 200
    assert "A request listener of the emulator failed" in caplog.text


def test_stop_closes_connections_in_a_tls_handshake() -> None:
    with Emulator() as emulator:
        port = int(emulator.key_vault.url.rpartition(":")[2])
        silent = socket.create_connection(("127.0.0.1", port))
        requests.get(emulator.jwks_url)
        requests.get(emulator.key_vault.url, verify=emulator.key_vault.ca_file)
    with silent:
        silent.settimeout(10)
        assert silent.recv(1) == b""


def test_listeners_get_each_request(start_emulator: Start, request_token: Send) -> None:
    emulator = start_emulator()
    received: list[RecordedRequest] = []
    emulator.on_request(received.append)
    request_token(emulator)
    assert [record.status for record in received] == [200]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_does_not_affect_its_parent(request_token: Send) -> None:
    # In a new process, because a fork of this one would copy the locks of other tests' threads.
    program = """
import os, socket, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from imds_identity.emulator import Emulator

with Emulator("arc") as emulator:
    host, port = emulator.endpoint.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(b"GET /common/discovery/keys HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
    client.recv(65536)
    directory = emulator.tokens_directory
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done[1])
        emulator.stop()
        with Emulator(key_vault=False) as own:
            socket.create_connection(("127.0.0.1", int(own.endpoint.rpartition(":")[2]))).close()
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        sys.exit(0)
    os.read(ready[0], 1)
    assert directory.is_dir()
    client.sendall(b"GET /common/discovery/keys HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 200")
# The child still lives, and must hold neither the connection nor the port.
client.settimeout(10)
assert client.recv(1) == b""
try:
    socket.create_connection((host, int(port))).close()
except ConnectionRefusedError:
    pass
else:
    raise AssertionError("the child still listens")
os.close(done[1])
assert os.waitpid(child, 0)[1] == 0
assert not directory.exists()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_pytest_plugin_imports_no_heavy_modules() -> None:
    program = (
        "import sys, imds_identity.emulator.pytest_plugin;"
        "heavy = {'aiohttp', 'cryptography', 'jwt'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_emulator_does_not_import_the_client() -> None:
    program = (
        "import sys, pkgutil, importlib, imds_identity\n"
        "client = set(sys.modules)\n"
        "import imds_identity.emulator as package\n"
        "prefix = package.__name__ + '.'\n"
        "for module in pkgutil.walk_packages(package.__path__, prefix):\n"
        "    importlib.import_module(module.name)\n"
        "own = set(sys.modules) - client\n"
        "imported = [name for name in own if name.startswith('imds_identity.')]\n"
        "ours = (package.__name__, 'imds_identity._version')\n"
        "others = [name for name in imported if not name.startswith(ours)]\n"
        "assert not others, others"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_error_without_the_extra_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "import imds_identity.emulator as package\n"
        "try:\n    package.Emulator\n"
        "except ModuleNotFoundError as error:\n    assert '[emulator]' in str(error), error\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_it_listens_on_ipv6_loopback(request_token: Send) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with Emulator(host="::1", key_vault=False) as emulator:
        assert emulator.endpoint.startswith("http://[::1]:")
        assert request_token(emulator).status_code == 200


def test_tokens_directory_is_a_path(start_emulator: Start) -> None:
    assert isinstance(start_emulator("arc").tokens_directory, pathlib.Path)

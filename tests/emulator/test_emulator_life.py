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

from imds_identity.emulator import Emulator, RecordedRequest, SystemAssigned, UserAssigned

if TYPE_CHECKING:
    from emulator.support import Ask, Start

ONE = UserAssigned.named("one")


def test_it_leaves_nothing_behind(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = threading.active_count()
    with Emulator("arc") as emulator:
        ask(emulator)
        assert emulator.key_vault.ca_file.startswith(str(tmp_path))
        endpoint = emulator.endpoint
    assert threading.active_count() == before
    assert os.listdir(tmp_path) == []
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(endpoint)


def test_it_stops_at_once_whatever_is_under_way() -> None:
    with Emulator(key_vault=False) as emulator:
        emulator.fault(category="*", delay=600)
        host, port = emulator.endpoint.removeprefix("http://").split(":")
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while not emulator.requests:
            pass
    with client:
        assert client.recv(1) == b""


def test_it_can_be_started_again(ask: Ask) -> None:
    emulator = Emulator(key_vault=False)
    for _ in range(2):
        with emulator:
            assert ask(emulator).status_code == 200
    emulator.stop()


def test_many_run_side_by_side(started: Start, ask: Ask) -> None:
    emulators = [started() for _ in range(8)]
    for emulator in emulators:
        assert ask(emulator).status_code == 200
    assert [len(emulator.requests) for emulator in emulators] == [1] * 8


def test_what_needs_it_running_says_so() -> None:
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.endpoint
    with emulator, pytest.raises(RuntimeError, match="running already"):
        emulator.start()
    with Emulator(key_vault=False) as bare, pytest.raises(RuntimeError, match="key_vault=False"):
        _ = bare.key_vault


def test_a_port_that_is_taken_is_named(started: Start) -> None:
    port = int(started().endpoint.rpartition(":")[2])
    with pytest.raises(OSError, match=str(port)):
        Emulator(port=port).start()


@pytest.mark.parametrize(
    ("arguments", "words"),
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
        ({"allowed_hosts": ["imds:16925"]}, "no port; 'imds:16925' is none"),
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
def test_an_argument_that_makes_no_sense_is_refused(arguments: Any, words: Any) -> None:
    with pytest.raises(ValueError, match=words):
        Emulator(**arguments)


def test_the_environment_of_each_profile(started: Start) -> None:
    vm, arc, app = started(), started("arc"), started("app-service")
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


def test_requests_are_recorded_without_their_secrets(started: Start, ask: Ask) -> None:
    emulator = started()
    ask(emulator, headers={"Authorization": "Basic hunter2", "X-Own": "shown"})
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


def test_answers_are_recorded_without_what_they_grant(started: Start, ask: Ask) -> None:
    emulator = started()
    token = ask(emulator).json()["access_token"]
    ask(emulator, client_id="nobody")
    granted, refused = emulator.requests
    assert '"access_token":"(hidden)"' in granted.answer
    assert token[:20] not in repr(emulator.requests)
    assert "Identity not found" in refused.answer


def test_a_record_says_who_asked_and_how_long_it_took(started: Start, ask: Ask) -> None:
    emulator = started()
    emulator.fault(delay=0.05, times=1)
    ask(emulator)
    ask(emulator)
    slow = emulator.requests[0]
    assert slow.client == "127.0.0.1"
    assert slow.seconds is not None
    assert slow.seconds >= 0.05
    assert slow.effects == {"delay": 0.05}


def test_the_record_of_requests_is_bounded(started: Start, ask: Ask) -> None:
    emulator = started(log_size=3)
    for _ in range(5):
        ask(emulator)
    assert [record.number for record in emulator.requests] == [3, 4, 5]


def test_a_listener_that_fails_is_not_the_client_s_concern(
    started: Start, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    emulator = started()
    emulator.on_request(lambda record: 1 // 0)
    assert ask(emulator).status_code == 200
    assert "A listener failed" in caplog.text


def test_an_unfinished_tls_handshake_does_not_outlive_it() -> None:
    with Emulator() as emulator:
        port = int(emulator.key_vault.url.rpartition(":")[2])
        silent = socket.create_connection(("127.0.0.1", port))
        requests.get(emulator.jwks_url)
        requests.get(emulator.key_vault.url, verify=emulator.key_vault.ca_file)
    with silent:
        silent.settimeout(10)
        assert silent.recv(1) == b""


def test_listeners_hear_of_each_request(started: Start, ask: Ask) -> None:
    emulator = started()
    heard: list[RecordedRequest] = []
    emulator.on_request(heard.append)
    ask(emulator)
    assert [record.status for record in heard] == [200]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_hangs_nor_disturbs_its_parent(ask: Ask) -> None:
    # In a process of its own: forking one with other tests' threads in it proves little.
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


def test_the_package_loads_nothing_until_a_name_is_used() -> None:
    program = (
        "import sys, imds_identity.emulator.pytest_plugin;"
        "heavy = {'aiohttp', 'cryptography', 'jwt'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_emulator_does_not_know_the_client() -> None:
    program = (
        "import sys, pkgutil, importlib, imds_identity\n"
        "client = set(sys.modules)\n"
        "import imds_identity.emulator as package\n"
        "prefix = package.__name__ + '.'\n"
        "for module in pkgutil.walk_packages(package.__path__, prefix):\n"
        "    importlib.import_module(module.name)\n"
        "own = set(sys.modules) - client\n"
        "known = [name for name in own if name.startswith('imds_identity.')]\n"
        "ours = (package.__name__, 'imds_identity._version')\n"
        "strangers = [name for name in known if not name.startswith(ours)]\n"
        "assert not strangers, strangers"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "import imds_identity.emulator as package\n"
        "try:\n    package.Emulator\n"
        "except ModuleNotFoundError as error:\n    assert '[emulator]' in str(error), error\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_it_listens_on_ipv6_loopback(ask: Ask) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with Emulator(host="::1", key_vault=False) as emulator:
        assert emulator.endpoint.startswith("http://[::1]:")
        assert ask(emulator).status_code == 200


def test_paths_are_paths(started: Start) -> None:
    assert isinstance(started("arc").tokens_directory, pathlib.Path)

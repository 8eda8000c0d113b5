"""For any response of a hostile service, every method returns or raises as documented."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._core.failure import Malformed
from imds_identity.cli import events as events_command
from imds_identity.cli import metadata as metadata_command
from imds_identity.metadata import MetadataClient, MetadataError, parse_instance
from imds_identity.metadata._events.command_hook import change_to_dict, change_to_environment
from imds_identity.metadata._events.events import Change, events_from_json
from metadata_support import FakeService, event
from support import FakeClock, ResponseFactory

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS: dict[str, Callable[[MetadataClient], Any]] = {
    "instance": lambda client: client.instance(),
    "tags": lambda client: client.tags(),
    "get": lambda client: client.get("compute/name"),
    "public_ips": lambda client: client.public_ips(),
    "load_balancer": lambda client: client.load_balancer(),
    "versions": lambda client: client.versions(),
    "identity_info": lambda client: client.identity_info(),
    "attested_document": lambda client: client.attested_document(nonce="1", offline=True),
    "attested_signature": lambda client: client.attested_signature(),
    "scheduled_events": lambda client: client.scheduled_events(),
    "require": lambda client: client.require(3),
    "watch": lambda client: client.watch().ask(),
}
NAMES = st.sampled_from(
    [
        *("compute", "network", "interface", "tagsList", "tags", "azEnvironment", "name"),
        *("Events", "EventId", "Resources", "NotBefore", "DurationInSeconds", "EventStatus"),
        *("apiVersions", "newest-versions", "error", "loadbalancer", "publicIpAddresses"),
        *("tenantId", "signature", "encoding", "frontendIpAddress"),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**400, 10**401)
    | st.floats()
    | st.text(max_size=5)
    | st.text(st.characters(categories=["Cs", "Cc"]), max_size=3)
    | st.sampled_from(["pkcs7", "MII=", "2021-02-01", "AzureStack", "Started"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BODIES = (
    JSON.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=40)
    | st.sampled_from(
        [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b'"\\ud800"', b"\xef\xbb\xbf{}"]
    )
)


def client_with_response(status: int, body: bytes) -> MetadataClient:
    clock = FakeClock()
    service = FakeService(clock)
    response = ResponseFactory(clock).raw(status, body)
    service.send = lambda request: response  # type: ignore[method-assign]
    return service.client()


@pytest.mark.parametrize("method", METHODS)
@given(status=st.sampled_from([200, 200, 200, 400, 404, 500]), body=BODIES)
def test_every_method_returns_or_raises_as_documented(
    method: str, status: int, body: bytes
) -> None:
    with contextlib.suppress(MetadataError):
        METHODS[method](client_with_response(status, body))


@given(document=JSON, output=st.sampled_from(["auto", "json", "text", "table"]))
def test_any_document_can_be_printed(document: Any, output: str) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    with mock.patch("sys.stdout", stdout):
        metadata_command._write(document, output)
        stdout.flush()


@given(name=st.text(max_size=4), value=JSON)
def test_any_event_can_be_passed_to_a_command(name: str, value: Any) -> None:
    document = {"Events": [event("A", Description=value, EventType=name, NotBefore=value)]}
    try:
        (parsed,) = events_from_json(document).events
    except Malformed:
        return
    change = Change("scheduled", parsed)
    assert json.loads(json.dumps(change_to_dict(change)))["Change"] == "scheduled"
    for variable in change_to_environment(change).values():
        assert "\0" not in variable
        assert variable.isprintable()
        variable.encode()
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    with mock.patch("sys.stdout", stdout):
        for output in ("json", "text", "table"):
            events_command._print_change(change, output)


@given(JSON)
def test_documents_are_kept_without_loss(document: Any) -> None:
    try:
        instance = parse_instance(json.dumps(document))
    except MetadataError:
        return
    assert json.dumps(instance.raw) == json.dumps(json.loads(json.dumps(document)))


def test_a_number_of_thousands_of_digits_is_none() -> None:
    assert parse_instance({"compute": {"vmId": 10**5000}}).compute.vm_id is None

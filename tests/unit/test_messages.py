"""Requests and responses, and the facts that exchanges read from them."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from imds_identity._core.secret import Secret
from imds_identity._core.source import shown_url
from imds_identity._http.messages import Request, Response, url_with
from imds_identity.metadata._requests.endpoint import ServiceEndpoint

if TYPE_CHECKING:
    from support import ResponseFactory


def response(status: int, body: Any = b"", **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, content, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("status", "is_redirect"), [(299, False), (300, True), (399, True), (400, False)]
)
def test_redirects_are_the_statuses_from_300_to_399(status: int, is_redirect: bool) -> None:
    assert response(status).is_redirect is is_redirect


@pytest.mark.parametrize(
    ("status", "body", "is_denial"),
    [
        (403, b"", True),
        (403, b" \r\n", True),
        (421, b"", True),
        (500, b"", True),
        (599, b"", True),
        (404, b"", False),
        (499, b"", False),
        (403, b"Forbidden", False),
        (500, b"{}", False),
    ],
)
def test_only_an_error_without_a_body_may_be_a_denial(
    status: int, body: bytes, is_denial: bool
) -> None:
    assert response(status, body).may_be_denial is is_denial


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (403, b"network Unreachable", True),
        (502, b"network unreachable", False),
        (403, b"", False),
    ],
)
def test_docker_responds_with_403_and_unreachable(status: int, body: bytes, expected: bool) -> None:
    assert response(status, body).is_from_docker is expected


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "a", "error_description": "b"}, "a: b"),
        ({"error_description": "b"}, "b"),
        ({"error": {"code": "c", "message": "d"}}, "c: d"),
        ({"code": "c", "message": "d", "more": "x"}, "c: d"),
        ({"error": 7}, "7"),
        ({"error": ""}, '{"error": ""}'),
        (["a"], '["a"]'),
        (b"text\xff", "text\N{REPLACEMENT CHARACTER}"),
        (b" ", "nothing"),
    ],
)
def test_error_text_has_code_and_description(body: Any, text: str) -> None:
    assert response(400, body).error_text == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("AADSTS5000", "AADSTS5000"),
        ("AADSTS500011: no", "AADSTS500011"),
        ("x AADSTS7000112.", "AADSTS7000112"),
        ("AADSTS500", ""),
        ("AADSTS70001123", ""),
        ("XAADSTS50001", ""),
    ],
)
def test_service_code_has_four_to_seven_digits(text: str, code: str) -> None:
    assert response(400, {"error": text}).service_code == code


@pytest.mark.parametrize(
    ("body", "is_error"),
    [({"error": "a"}, True), ({"error": {}}, False), ({}, False), ([], False), (b"{", False)],
)
def test_metadata_error_is_an_object_with_a_text(body: Any, is_error: bool) -> None:
    assert response(400, body).is_metadata_error is is_error


def test_retry_after_date_without_a_date_uses_this_machine_s_clock(
    responses: ResponseFactory,
) -> None:
    then = formatdate(responses.clock.wall() + 30, usegmt=True)
    assert responses.error(429, retry_after=then).retry_after == 30
    past = formatdate(responses.clock.wall() - 30, usegmt=True)
    assert responses.error(429, retry_after=past).retry_after == 0
    assert responses.error(429, retry_after="soon").retry_after is None
    assert responses.error(429).retry_after is None


def test_content_is_described_by_size_and_type() -> None:
    assert response(200, b"abc", content_type="text/html").content == "3 bytes of text/html"
    assert response(200, b"").content == "0 bytes of unknown type"


def test_query_is_percent_encoded_and_appended() -> None:
    query = {"resource": "https://a/?&=+ ", "x": "1"}
    encoded = "resource=https%3A%2F%2Fa%2F%3F%26%3D%2B%20&x=1"
    assert url_with("http://h/p", query) == f"http://h/p?{encoded}"
    assert url_with("http://h/p?a=b", query) == f"http://h/p?a=b&{encoded}"


def test_timeouts_are_replaced_in_a_copy() -> None:
    request = Request("http://h", {})
    changed = request.with_timeouts(1, None)
    assert (changed.connect_seconds, changed.seconds) == (1, request.seconds)
    changed = request.with_timeouts(None, 3)
    assert (changed.connect_seconds, changed.seconds) == (request.connect_seconds, 3)
    assert (request.connect_seconds, request.seconds) == (2, 12)
    assert request.with_timeouts(None, None) is request


def test_representations_show_neither_headers_nor_bodies() -> None:
    request = Request("http://h", {"B": Secret("s3cret"), "A": "s3cret"}, body=b"s3cret")
    assert repr(request) == "Request(GET 'http://h', headers=['A', 'B'])"
    secret = "Zm9vYmFyLXNlY3JldC1vZi10aGUtZW5kcG9pbnQ"
    request = Request(f"http://h/{secret}/metadata/instance?code={secret}", {})
    assert repr(request) == (
        "Request(GET 'http://h/<hidden>/metadata/instance?code=<hidden>', headers=[])"
    )
    endpoint = ServiceEndpoint(f"http://h/{secret}", lambda: 0.0)
    assert secret not in repr(endpoint)
    assert not isinstance(endpoint, tuple)
    assert repr(response(200, b"s3cret", x="s3cret")) == "Response(200, 6 bytes)"


def test_names_of_the_services_protocols_are_shown_in_urls() -> None:
    segments = [
        "attested",
        "document",
        "identity",
        "info",
        "instance",
        "loadbalancer",
        "metadata",
        "msi",
        "oauth2",
        "scheduledevents",
        "token",
        "v2.0",
        "versions",
    ]
    parameters = [
        "api-version",
        "bypass_cache",
        "client_id",
        "clientid",
        "format",
        "mi_res_id",
        "msi_res_id",
        "nonce",
        "object_id",
        "principalId",
        "principal_id",
        "resource",
        "xms_cc",
    ]
    query = "&".join(f"{name}=a-value" for name in parameters)
    url = f"http://h:1/{'/'.join(segments)}?{query}"
    assert shown_url(url) == url
    assert shown_url("http://h/unknown?unknown=a-value") == "http://h/<hidden>?unknown=<hidden>"

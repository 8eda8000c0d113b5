"""All documented routes, checks of headers and versions, and errors, as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from emulator.support import TOKEN_PATH
from imds_identity.emulator import DEFAULT_USER_ASSIGNED as USER
from imds_identity.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

INSTANCE = "/metadata/instance"
VERSIONS = "/metadata/versions"
ATTESTED = "/metadata/attested/document"
BALANCER = "/metadata/loadbalancer"
EVENTS = "/metadata/scheduledevents"
INFO = "/metadata/identity/info"
APP = "/msi/token"
VAULT = "resource=https://vault.azure.net"
NOT_SPECIFIED = "Bad request. api-version was not specified in the request"
NOT_SUPPORTED = "Bad request. api-version is invalid or not supported in this region"
NO_HEADER = "Bad request. Required metadata header not specified"
TRUE = {"Metadata": "true"}


class Case(NamedTuple):
    """A request, and the expected response.

    Attributes:
        profile: the kind of host.
        target: path and query of the request.
        status: the status of the response.
        text: a part of the response's body.
        headers: the headers of the request.
        method: the method of the request.
        body: the body of the request.
    """

    profile: str
    target: str
    status: int
    text: str = ""
    headers: dict[str, str] = TRUE
    method: str = "GET"
    body: str = ""


def target(path: str, version: str, *more: str) -> str:
    return f"{path}?{'&'.join((f'api-version={version}', *more))}"


def token_target(*more: str) -> str:
    return target(TOKEN_PATH, "2018-02-01", VAULT, *more)


# The paths that each host has, and those that it lacks.
ROUTES = [
    Case("vm", target(INSTANCE, "2021-02-01"), 200, '"compute"'),
    Case("vm", target(f"{INSTANCE}/compute", "2021-02-01"), 200, '"vmId"'),
    Case("vm", target(f"{INSTANCE}/network/interface/0", "2021-02-01"), 200, '"macAddress"'),
    Case("vm", VERSIONS, 200, '"apiVersions"'),
    Case("vm", target(ATTESTED, "2018-10-01"), 200, '"pkcs7"'),
    Case("vm", target(BALANCER, "2020-10-01"), 200, '"inboundRules"'),
    Case("vm", target(EVENTS, "2020-07-01"), 200, '"DocumentIncarnation"'),
    Case("vm", target(INFO, "2018-02-01"), 200, '"tenantId"'),
    Case("vm", token_target(), 200, '"expires_on":"'),
    Case("vm", target(TOKEN_PATH + "/", "2018-02-01", VAULT), 200, '"access_token"'),
    Case("vm", target("/metadata/nothing", "2021-02-01"), 404),
    Case("vm", target(APP, "2019-08-01", VAULT), 404),
    Case("arc", target(INSTANCE, "2020-06-01"), 200, '"compute"'),
    Case("arc", VERSIONS, 200, '"apiVersions"'),
    Case("arc", target(TOKEN_PATH, "2020-06-01", VAULT), 401),
    Case("arc", target(TOKEN_PATH, "2019-11-01", VAULT), 401),
    Case("arc", target(ATTESTED, "2020-09-01"), 404),
    Case("arc", target(EVENTS, "2020-07-01"), 404),
    Case("stack-hub", target(INSTANCE, "2021-05-01"), 200, '"AzureStack"'),
    Case("stack-hub", VERSIONS, 200, '"2021-05-01"'),
    Case("stack-hub", target(ATTESTED, "2020-09-01"), 404),
    Case("stack-hub", target(BALANCER, "2020-10-01"), 404),
    Case("stack-hub", target(EVENTS, "2020-07-01"), 404),
    Case("stack-hub", token_target(), 404),
    Case("app-service", target(INSTANCE, "2021-02-01"), 404),
]
CATEGORIES = [
    target(INSTANCE, "2021-02-01"),
    VERSIONS,
    target(ATTESTED, "2021-02-01"),
    target(BALANCER, "2021-02-01"),
    target(EVENTS, "2020-07-01"),
    target(INFO, "2021-02-01"),
    target(TOKEN_PATH, "2021-02-01", VAULT),
]
HEADERS = [
    case
    for each in CATEGORIES
    for case in (
        Case("vm", each, 200, headers={"Metadata": "True"}),
        Case("vm", each, 400, "metadata header not specified", headers={}),
        Case("vm", each, 400, "metadata header not specified", headers={"Metadata": "false"}),
        Case("vm", each, 400, headers={**TRUE, "X-Forwarded-For": "10.0.0.1"}),
        Case("vm", f"{each}{'&' if '?' in each else '?'}a=1&a=2", 400, "more than once"),
        Case("vm", each, 405, method="DELETE"),
        Case("vm", each, 405, method="PUT"),
    )
]
# The first version of each category that requires one, and an older version.
SINCE = [
    (INSTANCE, "2017-03-01", ""),
    (EVENTS, "2017-03-01", ""),
    (TOKEN_PATH, "2018-02-01", "2017-12-01"),
    (INFO, "2018-02-01", "2017-12-01"),
    (ATTESTED, "2018-10-01", "2018-04-02"),
    (BALANCER, "2020-10-01", "2020-09-01"),
]
READ_ON = "For more information refer to aka.ms/azureimds"
VERSION_CHECKS = [
    case
    for path, first, before in SINCE
    for case in (
        Case("vm", target(path, first, VAULT), 200),
        Case("vm", f"{path}?{VAULT}", 400, READ_ON),
        Case("vm", f"{path}?{VAULT}", 400, "newest-versions"),
        Case("vm", target(path, "", VAULT), 400, "api-version was not specified"),
        Case(
            "vm", target(path, "1999-01-01", VAULT), 400, "invalid or not supported in this region"
        ),
        Case("vm", target(path, "latest", VAULT), 400, "invalid or not supported in this region"),
        *([Case("vm", target(path, before, VAULT), 400, "newest-versions")] if before else []),
    )
] + [
    Case("vm", INSTANCE, 400, f'"error":"{NOT_SPECIFIED}. {READ_ON}"'),
    Case("vm", target(INSTANCE, "2099-01-01"), 400, f'"error":"{NOT_SUPPORTED}. {READ_ON}"'),
    Case("vm", target(INSTANCE, "2021-02-01"), 400, f'{{"error":"{NO_HEADER}"}}', headers={}),
    Case(
        "stack-hub", target(INSTANCE, "2021-08-01"), 400, '"2021-05-01","2021-03-01","2021-02-01"'
    ),
    Case("vm", target(VERSIONS, "1999-01-01"), 200),
]
LEAF = f"{INSTANCE}/compute/vmId"
PATHS_AND_FORMATS = [
    Case("vm", target(LEAF, "2021-02-01", "format=text"), 200, "02aab8a4-"),
    Case("vm", target(LEAF, "2021-02-01"), 400),
    Case("vm", target(LEAF, "2021-02-01", "format=json"), 400),
    Case("vm", target(INSTANCE, "2021-02-01", "format=text"), 200, "compute/\nnetwork/"),
    Case("vm", target(INSTANCE, "2021-02-01", "format=xml"), 400),
    Case("vm", target(f"{INSTANCE}/Compute", "2021-02-01"), 404),
    Case("vm", target(f"{INSTANCE}/compute/nothing", "2021-02-01"), 404),
    Case("vm", target(f"{INSTANCE}/network/interface/9", "2021-02-01"), 404),
    Case("vm", target(f"{INSTANCE}/compute/tagsList", "2019-06-01"), 404),
    Case("vm", target(f"{INSTANCE}/compute/tagsList", "2019-06-04"), 200, '"name":"environment"'),
    *[
        Case("vm", target(path, "2021-02-01", VAULT, "format=text"), 400)
        for path in (ATTESTED, BALANCER, TOKEN_PATH, INFO)
    ],
    Case("vm", target(EVENTS, "2020-07-01", "format=text"), 400),
]
TOKENS = [
    Case("vm", target(TOKEN_PATH, "2018-02-01"), 400, '"error":"invalid_request"'),
    Case("vm", target(TOKEN_PATH, "2018-02-01"), 400, "'resource' is missing"),
    Case("vm", target(TOKEN_PATH, "2018-02-01", "resource=unknown"), 400, '"invalid_resource"'),
    Case("vm", target(TOKEN_PATH, "2018-02-01", "resource=unknown"), 400, "AADSTS500011: "),
    Case(
        "vm",
        token_target("client_id=unknown"),
        400,
        "Identity not found",
    ),
    Case(
        "vm",
        token_target("object_id=unknown"),
        400,
        "Identity not found",
    ),
    Case("vm", token_target("msi_res_id=/no"), 400, "Identity not found"),
    Case("vm", token_target("client_id=a", "object_id=b"), 400, "At most"),
    Case("vm", token_target("client_id="), 400, "is empty"),
    Case("vm", token_target("bypass_cache=true"), 200),
    Case("vm", token_target("bypass_cache=no"), 400),
    *[
        Case(
            "vm",
            token_target(f"{name}={value}"),
            200,
            f'"{name}":"{value}"',
        )
        for name, value in (
            ("client_id", USER.client_id),
            ("object_id", USER.object_id),
            ("msi_res_id", USER.resource_id),
            ("mi_res_id", USER.resource_id),
        )
    ],
    Case("vm", token_target(), 405, method="POST"),
]
NONCES = [
    Case("vm", target(ATTESTED, "2018-10-01", f"nonce={nonce}"), status)
    for nonce, status in (
        ("1234567890", 200),
        ("a" * 32, 200),
        ("a-dash_of-Teleport", 200),
        ("a" * 65, 400),
    )
]
APPROVALS = [
    Case("vm", target(EVENTS, "2020-07-01"), 400, "Bad request", method="POST", body=body)
    for body in (
        "",
        "{",
        "[]",
        "{}",
        '{"StartRequests": []}',
        '{"StartRequests": [{}]}',
        '{"StartRequests": [{"EventId": "unknown"}]}',
    )
]
TABLE = [
    *ROUTES,
    *HEADERS,
    *VERSION_CHECKS,
    *PATHS_AND_FORMATS,
    *TOKENS,
    *NONCES,
    *APPROVALS,
]


@pytest.fixture(scope="module")
def host() -> Iterator[Callable[[str], Emulator]]:
    """Return the emulator of a profile, which all its cases share."""
    running: dict[str, Emulator] = {}

    def find(profile: Any) -> Emulator:
        if profile not in running:
            running[profile] = Emulator(profile, key_vault=False).start()
        return running[profile]

    yield find
    for emulator in running.values():
        emulator.stop()


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.method} {case.target}"[:90])
def test_response_is_as_documented(
    host: Callable[[str], Emulator], http: requests.Session, case: Case
) -> None:
    http.headers.clear()
    response = http.request(
        case.method,
        host(case.profile).endpoint + case.target,
        headers=case.headers,
        data=case.body or None,
        timeout=10,
    )
    assert (response.status_code, case.text in response.text) == (case.status, True), response.text
    if response.status_code >= 400:
        assert isinstance(response.json(), dict)
        assert "error" in response.json()
    if response.status_code == 405:
        assert "GET" in response.headers["Allow"]

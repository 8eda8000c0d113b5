"""Every route, header rule, version rule and error that the documentation has, a row each."""

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


class Row(NamedTuple):
    """A request, and how it must be answered.

    Attributes:
        profile: the kind of host that is asked.
        target: path and query.
        status: the status of the answer.
        says: part of the answer's body.
        headers: those of the request.
        method: that of the request.
        body: that of the request.
    """

    profile: str
    target: str
    status: int
    says: str = ""
    headers: dict[str, str] = TRUE
    method: str = "GET"
    body: str = ""


def ask(path: str, version: str, *more: str) -> str:
    return f"{path}?{'&'.join((f'api-version={version}', *more))}"


# What each host serves, and what it does not.
ROUTES = [
    Row("vm", ask(INSTANCE, "2021-02-01"), 200, '"compute"'),
    Row("vm", ask(f"{INSTANCE}/compute", "2021-02-01"), 200, '"vmId"'),
    Row("vm", ask(f"{INSTANCE}/network/interface/0", "2021-02-01"), 200, '"macAddress"'),
    Row("vm", VERSIONS, 200, '"apiVersions"'),
    Row("vm", ask(ATTESTED, "2018-10-01"), 200, '"pkcs7"'),
    Row("vm", ask(BALANCER, "2020-10-01"), 200, '"inboundRules"'),
    Row("vm", ask(EVENTS, "2020-07-01"), 200, '"DocumentIncarnation"'),
    Row("vm", ask(INFO, "2018-02-01"), 200, '"tenantId"'),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT), 200, '"expires_on":"'),
    Row("vm", ask(TOKEN_PATH + "/", "2018-02-01", VAULT), 200, '"access_token"'),
    Row("vm", ask("/metadata/nothing", "2021-02-01"), 404),
    Row("vm", ask(APP, "2019-08-01", VAULT), 404),
    Row("arc", ask(INSTANCE, "2020-06-01"), 200, '"compute"'),
    Row("arc", VERSIONS, 200, '"apiVersions"'),
    Row("arc", ask(TOKEN_PATH, "2020-06-01", VAULT), 401),
    Row("arc", ask(TOKEN_PATH, "2019-11-01", VAULT), 401),
    Row("arc", ask(ATTESTED, "2020-09-01"), 404),
    Row("arc", ask(EVENTS, "2020-07-01"), 404),
    Row("stack-hub", ask(INSTANCE, "2021-05-01"), 200, '"AzureStack"'),
    Row("stack-hub", VERSIONS, 200, '"2021-05-01"'),
    Row("stack-hub", ask(ATTESTED, "2020-09-01"), 404),
    Row("stack-hub", ask(BALANCER, "2020-10-01"), 404),
    Row("stack-hub", ask(EVENTS, "2020-07-01"), 404),
    Row("stack-hub", ask(TOKEN_PATH, "2018-02-01", VAULT), 404),
    Row("app-service", ask(INSTANCE, "2021-02-01"), 404),
]
CATEGORIES = [
    ask(INSTANCE, "2021-02-01"),
    VERSIONS,
    ask(ATTESTED, "2021-02-01"),
    ask(BALANCER, "2021-02-01"),
    ask(EVENTS, "2020-07-01"),
    ask(INFO, "2021-02-01"),
    ask(TOKEN_PATH, "2021-02-01", VAULT),
]
HEADERS = [
    row
    for target in CATEGORIES
    for row in (
        Row("vm", target, 200, headers={"Metadata": "True"}),
        Row("vm", target, 400, "metadata header not specified", headers={}),
        Row("vm", target, 400, "metadata header not specified", headers={"Metadata": "false"}),
        Row("vm", target, 400, headers={**TRUE, "X-Forwarded-For": "10.0.0.1"}),
        Row("vm", f"{target}{'&' if '?' in target else '?'}a=1&a=2", 400, "more than once"),
        Row("vm", target, 405, method="DELETE"),
        Row("vm", target, 405, method="PUT"),
    )
]
# The first version of each category that needs one, and a real one from before it.
SINCE = [
    (INSTANCE, "2017-03-01", ""),
    (EVENTS, "2017-03-01", ""),
    (TOKEN_PATH, "2018-02-01", "2017-12-01"),
    (INFO, "2018-02-01", "2017-12-01"),
    (ATTESTED, "2018-10-01", "2018-04-02"),
    (BALANCER, "2020-10-01", "2020-09-01"),
]
READ_ON = "For more information refer to aka.ms/azureimds"
RULES_OF_VERSIONS = [
    row
    for path, first, before in SINCE
    for row in (
        Row("vm", ask(path, first, VAULT), 200),
        Row("vm", f"{path}?{VAULT}", 400, READ_ON),
        Row("vm", f"{path}?{VAULT}", 400, "newest-versions"),
        Row("vm", ask(path, "", VAULT), 400, "api-version was not specified"),
        Row("vm", ask(path, "1999-01-01", VAULT), 400, "invalid or not supported in this region"),
        Row("vm", ask(path, "latest", VAULT), 400, "invalid or not supported in this region"),
        *([Row("vm", ask(path, before, VAULT), 400, "newest-versions")] if before else []),
    )
] + [
    Row("vm", INSTANCE, 400, f'"error":"{NOT_SPECIFIED}. {READ_ON}"'),
    Row("vm", ask(INSTANCE, "2099-01-01"), 400, f'"error":"{NOT_SUPPORTED}. {READ_ON}"'),
    Row("vm", ask(INSTANCE, "2021-02-01"), 400, f'{{"error":"{NO_HEADER}"}}', headers={}),
    Row("stack-hub", ask(INSTANCE, "2021-08-01"), 400, '"2021-05-01","2021-03-01","2021-02-01"'),
    Row("vm", ask(VERSIONS, "1999-01-01"), 200),
]
LEAF = f"{INSTANCE}/compute/vmId"
PATHS_AND_FORMATS = [
    Row("vm", ask(LEAF, "2021-02-01", "format=text"), 200, "02aab8a4-"),
    Row("vm", ask(LEAF, "2021-02-01"), 400),
    Row("vm", ask(LEAF, "2021-02-01", "format=json"), 400),
    Row("vm", ask(INSTANCE, "2021-02-01", "format=text"), 200, "compute/\nnetwork/"),
    Row("vm", ask(INSTANCE, "2021-02-01", "format=xml"), 400),
    Row("vm", ask(f"{INSTANCE}/Compute", "2021-02-01"), 404),
    Row("vm", ask(f"{INSTANCE}/compute/nothing", "2021-02-01"), 404),
    Row("vm", ask(f"{INSTANCE}/network/interface/9", "2021-02-01"), 404),
    Row("vm", ask(f"{INSTANCE}/compute/tagsList", "2019-06-01"), 404),
    Row("vm", ask(f"{INSTANCE}/compute/tagsList", "2019-06-04"), 200, '"name":"environment"'),
    *[
        Row("vm", ask(path, "2021-02-01", VAULT, "format=text"), 400)
        for path in (ATTESTED, BALANCER, TOKEN_PATH, INFO)
    ],
    Row("vm", ask(EVENTS, "2020-07-01", "format=text"), 400),
]
TOKENS = [
    Row("vm", ask(TOKEN_PATH, "2018-02-01"), 400, '"error":"invalid_request"'),
    Row("vm", ask(TOKEN_PATH, "2018-02-01"), 400, "'resource' is missing"),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", "resource=nobody"), 400, '"invalid_resource"'),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", "resource=nobody"), 400, "AADSTS500011: "),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "client_id=nobody"), 400, "Identity not found"),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "object_id=nobody"), 400, "Identity not found"),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "msi_res_id=/no"), 400, "Identity not found"),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "client_id=a", "object_id=b"), 400, "At most"),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "client_id="), 400, "is empty"),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "bypass_cache=true"), 200),
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT, "bypass_cache=no"), 400),
    *[
        Row(
            "vm",
            ask(TOKEN_PATH, "2018-02-01", VAULT, f"{name}={value}"),
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
    Row("vm", ask(TOKEN_PATH, "2018-02-01", VAULT), 405, method="POST"),
]
NONCES = [
    Row("vm", ask(ATTESTED, "2018-10-01", f"nonce={nonce}"), status)
    for nonce, status in (
        ("1234567890", 200),
        ("a" * 32, 200),
        ("a" * 33, 400),
        ("no-dash", 400),
    )
]
APPROVALS = [
    Row("vm", ask(EVENTS, "2020-07-01"), 400, "Bad request", method="POST", body=body)
    for body in (
        "",
        "{",
        "[]",
        "{}",
        '{"StartRequests": []}',
        '{"StartRequests": [{}]}',
        '{"StartRequests": [{"EventId": "nobody"}]}',
    )
]
TABLE = [
    *ROUTES,
    *HEADERS,
    *RULES_OF_VERSIONS,
    *PATHS_AND_FORMATS,
    *TOKENS,
    *NONCES,
    *APPROVALS,
]


@pytest.fixture(scope="module")
def host() -> Iterator[Callable[[str], Emulator]]:
    """The emulator of a profile; one serves all rows that ask for it."""
    running: dict[str, Emulator] = {}

    def find(profile: Any) -> Emulator:
        if profile not in running:
            running[profile] = Emulator(profile, key_vault=False).start()
        return running[profile]

    yield find
    for emulator in running.values():
        emulator.stop()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.target}"[:90])
def test_a_request_is_answered_as_documented(
    host: Callable[[str], Emulator], http: requests.Session, row: Row
) -> None:
    http.headers.clear()
    answer = http.request(
        row.method,
        host(row.profile).endpoint + row.target,
        headers=row.headers,
        data=row.body or None,
        timeout=10,
    )
    assert (answer.status_code, row.says in answer.text) == (row.status, True), answer.text
    if answer.status_code >= 400:
        assert isinstance(answer.json(), dict)
        assert "error" in answer.json()
    if answer.status_code == 405:
        assert "GET" in answer.headers["Allow"]

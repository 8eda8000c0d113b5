"""Responses match Microsoft's published OpenAPI files for their api-version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from imds_identity.emulator import DEFAULT_USER_ASSIGNED, Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENAPI = Path(__file__).parents[1] / "openapi"
# Properties in Microsoft's documentation that its OpenAPI files lack.
UNPUBLISHED_PROPERTIES = {"customData", "tagsList"}
VERSIONS = ("2018-02-01", "2019-11-01", "2021-12-13", "2023-07-01")

pytestmark = pytest.mark.interop


class Specification:
    """One published file; supports the subset of OpenAPI 2.0 that the files use."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.document = json.loads((OPENAPI / version / "imds.json").read_text())

    def has(self, path: str) -> bool:
        return path in self.document["paths"]

    def check(self, path: str, response: requests.Response) -> None:
        responses = self.document["paths"][path]["get"]["responses"]
        schema = responses.get(str(response.status_code), responses["default"])["schema"]
        assert response.headers["Content-Type"].startswith("application/json")
        strict = response.status_code == 200
        self._check(response.json(), schema, path, strict=strict)

    def _check(self, value: Any, schema: dict[str, Any], where: str, *, strict: bool) -> None:
        if "$ref" in schema:
            schema = self.document["definitions"][schema["$ref"].rpartition("/")[2]]
        kinds = {"object": dict, "array": list, "string": str}
        assert isinstance(value, kinds[schema["type"]]), f"{where}: expected {schema['type']}"
        if "enum" in schema:
            assert value in schema["enum"], f"{where} is {value!r}"
        if isinstance(value, dict):
            for name, inner in value.items():
                known = schema.get("properties", {})
                allowed = not strict or name in UNPUBLISHED_PROPERTIES
                assert name in known or allowed, f"{where}.{name} is not in {self.version}"
                if name in known:
                    self._check(inner, known[name], f"{where}.{name}", strict=strict)
        if isinstance(value, list):
            for index, inner in enumerate(value):
                self._check(inner, schema["items"], f"{where}[{index}]", strict=strict)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(key_vault=False) as running:
        yield running


@pytest.fixture(scope="module")
def arc() -> Iterator[Emulator]:
    with Emulator("arc", key_vault=False) as running:
        yield running


def get(emulator: Emulator, path: str, **parameters: str) -> requests.Response:
    headers = {"Metadata": parameters.pop("Metadata", "true")}
    url = f"{emulator.endpoint}/metadata{path}"
    return requests.get(url, params=parameters, headers=headers, timeout=10)


PATHS = {
    "/versions": {},
    "/instance": {},
    "/attested/document": {"nonce": "abcde12345"},
    "/identity/info": {},
    "/identity/oauth2/token": {"resource": "https://vault.azure.net"},
}
PUBLISHED_SINCE = {"/versions": "2023-07-01", "/attested/document": "2019-11-01"}
PUBLISHED = [
    (version, path)
    for version in VERSIONS
    for path in PATHS
    if version >= PUBLISHED_SINCE.get(path, "")
]
# Each of these makes a valid request invalid.
INVALID_PARAMETERS: list[dict[str, str]] = [
    {"Metadata": "false"},
    {"api-version": ""},
    {"api-version": "1999-01-01"},
    {"resource": ""},
    {"nonce": "not alphanumeric"},
    {"client_id": "nobody"},
    {"bypass_cache": "maybe"},
]


@pytest.mark.parametrize(("version", "path"), PUBLISHED)
def test_response_matches_the_schema(emulator: Emulator, version: str, path: str) -> None:
    specification = Specification(version)
    response = get(emulator, path, **{"api-version": version, **PATHS[path]})
    assert response.status_code == 200
    specification.check(path, response)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("selector", ["client_id", "object_id", "msi_res_id"])
def test_token_response_for_a_selected_identity_matches_the_schema(
    emulator: Emulator, version: str, selector: str
) -> None:
    attribute = {"msi_res_id": "resource_id"}.get(selector, selector)
    path = "/identity/oauth2/token"
    parameters = {selector: getattr(DEFAULT_USER_ASSIGNED, attribute), **PATHS[path]}
    response = get(emulator, path, **{"api-version": version, **parameters})
    assert response.status_code == 200
    Specification(version).check(path, response)


@pytest.mark.parametrize(("version", "path"), PUBLISHED)
@pytest.mark.parametrize("invalid", INVALID_PARAMETERS, ids=str)
def test_error_response_matches_the_schema(
    emulator: Emulator, arc: Emulator, version: str, path: str, invalid: dict[str, str]
) -> None:
    specification = Specification(version)
    parameters = {"api-version": version, **PATHS[path], **invalid}
    specification.check(path, get(emulator, path, **parameters))
    if path == "/identity/oauth2/token":
        specification.check(path, get(arc, path, **parameters))


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
@pytest.mark.parametrize("path", PATHS)
def test_fault_response_matches_the_schema(path: str, status: int) -> None:
    with Emulator(key_vault=False) as emulator:
        emulator.fault(category="*", status=status)
        for version in VERSIONS:
            specification = Specification(version)
            if specification.has(path):
                specification.check(path, get(emulator, path, **{"api-version": version}))

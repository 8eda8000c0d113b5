"""Which hosts get tokens for Azure DevOps, and how git's requests are read, for any input."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from imds_identity.cli.git_credential import _pairs
from imds_identity.metadata._services import is_azure_artifacts, is_azure_repos

PARTS = st.sampled_from(
    [
        "dev",
        "azure",
        "com",
        "pkgs",
        "visualstudio",
        "org",
        "-",
        ".",
        ".",
        ".",
        "@",
        ":443",
        "/",
        "%2e",
    ]
)
HOSTS = st.one_of(st.text(), st.lists(PARTS, max_size=9).map("".join))


@given(HOSTS)
def test_only_hosts_of_azure_devops_get_tokens(host: str) -> None:
    label = "[A-Za-z0-9-]+"
    if is_azure_repos(host):
        assert re.fullmatch(rf"dev\.azure\.com|{label}\.visualstudio\.com", host)
    if is_azure_artifacts(host):
        assert re.fullmatch(rf"pkgs\.dev\.azure\.com|{label}\.pkgs\.visualstudio\.com", host)


@given(st.binary())
def test_any_request_of_git_is_read(content: bytes) -> None:
    assert len(_pairs(content)) == content.count(b"\n") + 1


@given(st.dictionaries(st.text("abc[]", min_size=1), st.text().filter(lambda x: "\n" not in x)))
def test_fields_of_git_keep_their_values(fields: dict[str, str]) -> None:
    lines = "".join(f"{name}={value}\n" for name, value in fields.items())
    assert dict(_pairs(lines.encode())[:-1]) == fields

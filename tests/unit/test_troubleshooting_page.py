"""The troubleshooting page has a section for each cause that an error or the doctor names."""

from __future__ import annotations

import re

import pytest

from imds_identity._core.failure import Reason
from imds_identity.doctor._catalog.checks import CATALOG
from imds_identity.doctor._catalog.codes import CODES
from imds_identity.doctor._catalog.lookup import explain_check
from imds_identity.errors import ManagedIdentityError
from markdown_blocks import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"(?m)^#{2,3} ", PAGE)[1:]
ANCHORS = {
    anchor: section for section in SECTIONS for anchor in re.findall(r'<a id="([\w-]+)">', section)
}


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.value)
def test_help_url_of_each_reason_leads_to_a_section(reason: Reason) -> None:
    url = ManagedIdentityError("message", reason_code=reason.value).help_url
    assert url.partition("#") == (
        "https://imds-identity.readthedocs.io/troubleshooting/", "#", reason.value,
    )  # fmt: skip
    assert reason.value in ANCHORS


@pytest.mark.parametrize("code", CODES)
def test_explanation_of_an_error_code_links_to_a_section(code: str) -> None:
    [anchor] = re.findall(r"/troubleshooting/#([\w-]+)$", explain_check(code))
    assert code in ANCHORS[anchor]


def test_sections_have_cause_and_fix() -> None:
    missing = [
        anchor
        for anchor, section in ANCHORS.items()
        if "**Cause.**" not in section or "**Fix.**" not in section
    ]
    assert missing == []


def test_named_checks_exist() -> None:
    named = set(re.findall(r"\[(II\d{3})\]\(doctor\.md#ii\d{3}\)", PAGE))
    assert named
    assert named <= set(CATALOG)


def test_exception_without_a_reason_links_to_the_page() -> None:
    assert ManagedIdentityError("message").help_url.endswith("/troubleshooting/")


def test_environment_page_lists_each_variable_that_is_read() -> None:
    from imds_identity._platform import environment

    page = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    lower_case = {"all_proxy", "http_proxy", "https_proxy", "no_proxy"}
    assert {name for name in environment._known if f"`{name}" not in page} == lower_case


OWN_MESSAGES = """
did not come from IMDS
the response is a redirect
did not confirm the
throttled by the service (HTTP 429
the service keeps returning HTTP
the service returned HTTP
the VM's access rules deny this process access to the metadata service
the response has no access_token
this user may not read
names a key file that does not exist
not a key file of the agent
rejected the content of its key file
HTTP 200 instead of a 401 challenge
the challenge does not name a key file
Arc's secret was not sent
Arc's secret must not be sent there
the Azure Arc agent returned HTTP 503
names the file with this workload's token
Microsoft Entra ID returned HTTP
no request can be sent to
is not the SHA-1 thumbprint
the fetch did not start within
a fetch requested the very token that it is fetching
the transport or one of its hooks raised
this process is out of files, threads or memory
cannot be imported
an unexpected error ended the fetch
no connection to this address
no connection within
no response within
TLS certificate verification failed
token_type is not Bearer
s ago by its expires_on
"""


def test_quoted_messages_of_this_package_are_current() -> None:
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src/imds_identity").rglob("*.py")
    )
    source = re.sub(r'" *\n *f?"', "", source)
    messages = OWN_MESSAGES.strip().splitlines()
    assert [text for text in messages if text not in source] == []
    assert [text for text in messages if text not in PAGE] == []

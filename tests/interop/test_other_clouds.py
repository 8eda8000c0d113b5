"""Clients of other clouds that read tokens from a file, over the expiry of these tokens.

tests/interop/test_documentation_pages.py runs the same clients as docs/how-to/other-clouds.md does.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fake_azure import FakeAzure
from fake_clouds import AUDIENCE
from imds_identity.emulator import DEFAULT_USER_ASSIGNED
from markdown_blocks import blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

PAGE = "docs/how-to/other-clouds.md"
PROGRAM = Path(__file__).parent / "programs/other_clouds.py"
EXCHANGE = "api://AzureADTokenExchange"
APPLICATION = "44444444-4444-4444-4444-444444444444"
ARM = {"ARM_USE_OIDC": "true", "ARM_CLIENT_ID": APPLICATION, "ARM_TENANT_ID": "my-tenant"}
DATABRICKS = {
    "DATABRICKS_HOST": "https://my-workspace.cloud.databricks.com",
    "DATABRICKS_AUTH_TYPE": "file-oidc",
    "DATABRICKS_CLIENT_ID": APPLICATION,
}
AWS = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r", "AWS_DEFAULT_REGION": "eu-central-1"}


def run_program(azure: FakeAzure, program: str, variable: str, resource: str, *flags: str) -> None:
    """Run a function of the program until it has read three tokens."""
    done = azure.run(
        *(sys.executable, "-m", "imds_identity", "exec", *flags),
        *("--token-file", f"{variable}={resource}"),
        *("--", sys.executable, str(PROGRAM), program, variable),
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


@pytest.mark.parametrize(
    ("program", "package", "variable", "resource", "environment", "host"),
    [
        ("aws", "boto3", "AWS_WEB_IDENTITY_TOKEN_FILE", AUDIENCE, AWS, "sts.eu-central-1"),
        ("google", "google.auth", "TOKEN_FILE", AUDIENCE, {}, "sts.googleapis.com"),
        ("databricks", "databricks.sdk", "DATABRICKS_OIDC_TOKEN_FILEPATH", AUDIENCE, DATABRICKS,
         "my-workspace"),
        ("terraform", "", "ARM_OIDC_TOKEN_FILE_PATH", EXCHANGE, ARM, "login.microsoftonline.com"),
    ],
)  # fmt: skip
def test_client_follows_the_token_over_its_expiry(
    tmp_path: Path, program: str, package: str, variable: str, resource: str,
    environment: dict[str, str], host: str,
) -> None:  # fmt: skip
    """The services refuse expired tokens, and the program would fail with the first refusal."""
    if package:
        pytest.importorskip(package)
    elif shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    [main] = [block.text for block in blocks(PAGE) if block.title == "main.tf"]
    (tmp_path / "main.tf").write_text(main)
    tokens: list[str] = []
    with FakeAzure(tmp_path) as azure:
        azure.environment |= environment
        azure.emulator.fault(token_lifetime=8)
        azure.sites.on_request = tokens.append
        run_program(azure, program, variable, resource)
        assert azure.sites.unauthorized == []
        assert any(each.startswith(host) for _, each, _ in azure.sites.authorized)
    assert len({*filter(None, tokens)}) >= 3


def test_azure_identity_follows_the_assertion_over_its_expiry(
    emulator_factory: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = emulator_factory(applications=[APPLICATION])
    emulator.fault(token_lifetime=4, category="identity")
    with FakeAzure(tmp_path) as azure:
        azure.environment |= {
            **emulator.environment(),
            "AZURE_CLIENT_ID": APPLICATION,
            "AZURE_TENANT_ID": emulator.machine.tenant_id,
        }
        identity = ("--client-id", DEFAULT_USER_ASSIGNED.client_id)
        run_program(azure, "azure", "AZURE_FEDERATED_TOKEN_FILE", EXCHANGE, *identity)
    exchanges = [each for each in emulator.requests if each.category == "entra"]
    assert len(exchanges) >= 3
    assert {each.status for each in exchanges} == {200}


def test_documented_options_of_aws_exist() -> None:
    session = pytest.importorskip("botocore.session").get_session()
    model = session.get_service_model("iam")
    operations = {name.lower(): name for name in model.operation_names}
    [commands] = [block.text for block in blocks(PAGE) if block.text.startswith("aws iam")]
    for line in commands.splitlines():
        _, _, operation, *words = line.split()
        given = {word[2:].replace("-", "") for word in words if word.startswith("--")}
        members = model.operation_model(operations[operation.replace("-", "")]).input_shape.members
        assert given <= {name.lower() for name in members}


def test_documented_policy_is_one_of_databricks() -> None:
    oauth2 = pytest.importorskip("databricks.sdk.service.oauth2")
    [command] = [block.text for block in blocks(PAGE) if block.text.startswith("databricks")]
    policy = json.loads(re.sub("'\\$AUDIENCE'", "a", command).split("'")[1])
    assert oauth2.FederationPolicy.from_dict(policy).as_dict() == policy

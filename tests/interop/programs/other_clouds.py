"""Call a cloud until the token in a file has been replaced twice: `other_clouds.py FUNCTION FILE`.

Each function returns a call that keeps its client. What the client exchanged has expired at the
next call, so that it reads the file again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_SECONDS = 60


def aws() -> Callable[[], object]:
    import boto3

    return boto3.client("s3").list_buckets


def google() -> Callable[[], object]:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b"
    information = {
        "type": "external_account",
        "audience": pool,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": os.environ["TOKEN_FILE"]},
    }
    credentials, _ = google.auth.load_credentials_from_dict(information, scopes=["a"])
    session = AuthorizedSession(credentials)
    return lambda: session.get("https://storage.googleapis.com/storage/v1/b").raise_for_status()


def databricks() -> Callable[[], object]:
    from databricks.sdk import WorkspaceClient

    client = WorkspaceClient()
    return lambda: list(client.clusters.list())


def azure() -> Callable[[], object]:
    from azure.identity import WorkloadIdentityCredential

    # One credential reads the file again after ten minutes.
    return lambda: WorkloadIdentityCredential(disable_instance_discovery=True).get_token(
        "https://vault.azure.net/.default"
    )


def terraform() -> Callable[[], object]:
    command = ["terraform", "init", "-reconfigure", "-no-color"]
    return lambda: subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> None:
    call = globals()[sys.argv[1]]()
    path, seen = Path(os.environ[sys.argv[2]]), set[str]()
    end = time.monotonic() + TIMEOUT_SECONDS
    while len(seen) < 3 and time.monotonic() < end:
        seen.add(path.read_text())
        call()
        time.sleep(0.1)
    print(len(seen))


main()

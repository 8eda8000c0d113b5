"""A program that uses both credentials in threads, tasks and two event loops; prints digests."""

from __future__ import annotations

import asyncio
import json

from token_jobs import SCOPES, sync_job, tasks_job, threads_job

import imds_identity
import imds_identity.aio


def failure() -> str:
    """Return the name of the error for an identity that does not exist."""
    try:
        imds_identity.ManagedIdentityCredential(client_id="nobody").get_token(SCOPES[0])
    except imds_identity.CredentialUnavailableError as error:
        return type(error).__name__
    return "no failure"


def main() -> None:
    """Print the digests of all calls, and the name of an error."""
    credential = imds_identity.ManagedIdentityCredential()
    aio_credential = imds_identity.aio.ManagedIdentityCredential()
    digests = threads_job(credential)
    digests += asyncio.run(tasks_job(aio_credential))
    digests += asyncio.run(tasks_job(aio_credential))
    digests.append(sync_job())
    print(json.dumps({"digests": digests, "failure": failure()}))


if __name__ == "__main__":
    main()

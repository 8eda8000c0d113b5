"""Fakes of services that exchange a managed identity's token for one of their own.

Each returns the token that it got as its own, so that later requests show which one was used. What
it issues expires soon: these clients exchange a token again for each request.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from imds_identity.emulator._state.tokens import EXCHANGE_AUDIENCE

if TYPE_CHECKING:
    from email.message import Message

AUDIENCE = "api://22222222-2222-2222-2222-222222222222"
_TOKEN, _EXPIRY = "TOKEN", "EXPIRY"
_LIFETIME = 20
_DATABRICKS = "https://my-workspace.cloud.databricks.com"
_DISCOVERY = "/.well-known/databricks-config"
_METADATA = "/oidc/.well-known/oauth-authorization-server"
_ISSUED = {
    "access_token": _TOKEN,
    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "token_type": "Bearer",
    "expires_in": _LIFETIME,
}


class Site(NamedTuple):
    """A fake service.

    Attributes:
        audience: the audience of the tokens that it accepts.
        body: the response as JSON or text, or a dict of responses by path.
    """

    audience: str
    body: Any


OTHER_CLOUDS = {
    "sts.eu-central-1.amazonaws.com": Site(
        AUDIENCE,
        {
            "/": "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            "<AccessKeyId>ASIA0000</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey>"
            f"<SessionToken>{_TOKEN}</SessionToken><Expiration>{_EXPIRY}</Expiration>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        },
    ),
    "s3.eu-central-1.amazonaws.com": Site(
        AUDIENCE,
        {
            "/": "<ListAllMyBucketsResult><Buckets><Bucket><Name>my-bucket</Name></Bucket>"
            "</Buckets></ListAllMyBucketsResult>"
        },
    ),
    "sts.googleapis.com": Site(AUDIENCE, _ISSUED),
    "cloudresourcemanager.googleapis.com": Site(AUDIENCE, {"projectId": "my-project"}),
    "storage.googleapis.com": Site(AUDIENCE, {"items": [{"name": "report.csv"}]}),
    "my-workspace.cloud.databricks.com": Site(
        AUDIENCE,
        {
            _DISCOVERY: {"oidc_endpoint": f"{_DATABRICKS}/oidc"},
            _METADATA: {
                "authorization_endpoint": f"{_DATABRICKS}/oidc/v1/authorize",
                "token_endpoint": f"{_DATABRICKS}/oidc/v1/token",
            },
            "/oidc/v1/token": _ISSUED,
            "/api/2.1/clusters/list": {"clusters": [{"cluster_name": "my-cluster"}]},
        },
    ),
    "login.microsoftonline.com": Site(EXCHANGE_AUDIENCE, _ISSUED),
    "tfstate.blob.core.windows.net": Site(
        EXCHANGE_AUDIENCE,
        {
            "/states": "<EnumerationResults><Blobs></Blobs></EnumerationResults>",
            "/states/production": {"version": 4, "terraform_version": "1.0.0", "lineage": "a"},
        },
    ),
}
PUBLIC_PATHS = {_DISCOVERY, _METADATA}


def presented_token(headers: Message, body: bytes) -> str:
    """Return the token of a request: a bearer or session token, or one to exchange."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer":
        return token
    form = parse_qs(body.decode("latin-1"))
    for name in ("WebIdentityToken", "subject_token", "client_assertion"):
        if name in form:
            return form[name][0]
    return headers.get("X-Amz-Security-Token") or ""


def response_with(token: str, response: Any) -> tuple[bytes, str]:
    """Return a response that contains the token, and its type."""
    text = response if isinstance(response, str) else json.dumps(response)
    expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + _LIFETIME))
    body = text.replace(_TOKEN, token).replace(_EXPIRY, expiry).encode()
    return body, "application/xml" if text.startswith("<") else "application/json"

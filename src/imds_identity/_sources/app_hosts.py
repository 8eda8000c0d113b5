"""Hosts that give an app its tokens: App Service, Service Fabric, Azure ML and Cloud Shell.

Each is asked once, and knows the app by a secret that it has put into the app's environment.
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code
https://learn.microsoft.com/azure/cloud-shell/msi-authorization
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import Failure, Reason, Refused, Unavailable
from .._http.messages import Request, Response, url_with
from .._http.retry import with_retries
from .._http.retry_options import DEFAULT_RETRY, RetryOptions
from .refusals import check_identity, reason_of, refusal
from .token_parsing import token_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.secret import Secret
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.exchange import Random, Steps

HEADERS = {"Metadata": "true"}


class Host(NamedTuple):
    """How a kind of host is asked.

    Attributes:
        variable: the environment variable that says where it is.
        secret_variable: the one with the app's secret, if there is one.
        secret_header: what the secret is sent in.
        api_version: the version of its protocol; without one it is sent a form.
        selectors: what it calls each selector of an identity that it knows.
    """

    variable: str
    secret_variable: str = ""
    secret_header: str = ""
    api_version: str = ""
    selectors: Mapping[str, str] = {}


HOSTS = {
    "app-service": Host(
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "X-IDENTITY-HEADER",
        "2019-08-01",
        {"client_id": "client_id", "object_id": "object_id", "resource_id": "mi_res_id"},
    ),
    "service-fabric": Host("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "Secret", "2019-07-01-preview"),
    "azure-ml": Host(
        "MSI_ENDPOINT",
        "MSI_SECRET",
        "secret",
        "2017-09-01",
        {"client_id": "clientid", "object_id": "object_id", "resource_id": "msi_res_id"},
    ),
    "cloud-shell": Host("MSI_ENDPOINT"),
}


def exchange(
    name: str,
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions = DEFAULT_RETRY,
    *,
    secret: Secret | None = None,
    thumbprint: str | None = None,
    refused: Token | None = None,
) -> Steps[Token]:
    """One token from a host.

    Args:
        name: the kind of host, one of `HOSTS`.
        endpoint: where it is.
        token_request: what for, and as whom.
        random: spreads retries and refreshes.
        retry_options: what the caller wants otherwise.
        secret: the app's.
        thumbprint: of the certificate that Service Fabric proves itself with.
        refused: the token that a claims challenge is about; Service Fabric replaces that one.

    Raises:
        Failure: when there is none to be had.
    """
    request = _request(name, endpoint, token_request, secret, thumbprint, refused)
    try:
        response = yield from with_retries(
            request,
            random,
            unreachable_hint=f"{HOSTS[name].variable} says where the host is.",
            retry_options=retry_options,
        )
        if response.status != 200:
            raise _refusal(response, token_request, HOSTS[name])
        check_identity(response, token_request.identity, required=False)
        return token_from(response, random())
    except Failure as failure:
        # A host may say whatever it likes, the secret that it was sent included.
        if secret is not None:
            failure.redact(secret)
        raise


def _refusal(response: Response, token_request: TokenRequest, host: Host) -> Failure:
    if response.status in (401, 403) and host.secret_variable:
        return Refused(
            f"the service answered {response.status}, {response.error_text}",
            f"It knows an app by {host.secret_variable}: is that this process's own?",
            reason=reason_of(response),
            status=response.status,
            service_code=response.service_code,
        )
    return refusal(response, token_request)


def _request(
    name: str,
    endpoint: str,
    token_request: TokenRequest,
    secret: Secret | None,
    thumbprint: str | None,
    refused: Token | None,
) -> Request:
    host, identity = HOSTS[name], token_request.identity
    if identity.selector and identity.selector not in host.selectors:
        raise Refused(
            f"{name} cannot select an identity by {identity.selector}",
            "Leave the selector out, or configure the identity in the host itself.",
            reason=Reason.UNSUPPORTED,
        )
    headers: dict[str, str | Secret] = {**HEADERS}
    if secret is not None:
        if not secret.fits_a_header():
            raise Unavailable(
                f"{host.secret_variable} cannot be sent in a header",
                "The host sets it: letters, digits and punctuation of ASCII.",
                reason=Reason.INVALID_SETTING,
            )
        headers[host.secret_header] = secret
    query = {"resource": token_request.resource}
    if not host.api_version:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        form = url_with("", query).removeprefix("?").encode()
        return Request(endpoint, headers, "POST", form)
    query |= {"api-version": host.api_version}
    query |= {host.selectors[identity.selector]: identity.value} if identity.selector else {}
    if thumbprint is None:
        return Request(url_with(endpoint, query), headers)
    if refused is not None:
        query["token_sha256_to_refresh"] = _sha256(refused)
    certificate = _certificate(endpoint, thumbprint)
    return Request(url_with(endpoint, query), headers, certificate=certificate)


def _certificate(endpoint: str, thumbprint: str) -> str:
    """``thumbprint`` as forty hexadecimal digits, once it is clear that it will be looked at."""
    digits = re.sub(r"[\s:]", "", thumbprint).lower()
    if not re.fullmatch(r"[0-9a-f]{40}", digits):
        raise Unavailable(
            "IDENTITY_SERVER_THUMBPRINT is no SHA-1 thumbprint of a certificate",
            "Service Fabric sets it: forty hexadecimal digits.",
            reason=Reason.INVALID_SETTING,
        )
    if not endpoint.lower().startswith("https://"):
        raise Unavailable(
            "Service Fabric is asked by https only, where its certificate proves it",
            "Correct IDENTITY_ENDPOINT.",
            reason=Reason.INVALID_SETTING,
        )
    return digits


def _sha256(token: Token) -> str:
    import hashlib

    return hashlib.sha256(token.value.encode()).hexdigest()

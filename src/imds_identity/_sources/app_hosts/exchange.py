"""The token exchange of App Service, Service Fabric, Azure ML, and Cloud Shell.

One request returns a token, and a secret in the app's environment identifies the app.
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code
https://learn.microsoft.com/azure/cloud-shell/msi-authorization
"""

from __future__ import annotations

import re

from ..._core.failure import Failure, Reason, Refused, Unavailable
from ..._http.messages import Request, Response, url_with
from ..._http.retry import with_retries
from ..._http.retry_options import DEFAULT_RETRY, RetryOptions
from ..refusals import check_identity, reason_of, refusal
from ..token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..._core.secret import Secret
    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.exchange import Random, Steps
    from .spec import AppHostSpec

HEADERS = {"Metadata": "true"}


def exchange(
    spec: AppHostSpec,
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions = DEFAULT_RETRY,
    *,
    secret: Secret | None = None,
    thumbprint: str | None = None,
    refused: Token | None = None,
) -> Steps[Token]:
    """Request one token.

    Args:
        spec: the kind of host.
        endpoint: its URL.
        token_request: the resource and the identity.
        random: adds jitter.
        retry_options: the caller's timeouts and retry policy.
        secret: identifies the app.
        thumbprint: the thumbprint of Service Fabric's certificate.
        refused: the token that a resource rejected with a claims challenge, if any.
    """
    request = _request(spec, endpoint, token_request, secret)
    if thumbprint is not None:
        request.certificate = _fingerprint(endpoint, thumbprint)
        if refused is not None:
            query = {"token_sha256_to_refresh": _sha256(refused)}
            request.url = url_with(request.url, query)
    response = yield from with_retries(
        request,
        random,
        unreachable_hint=f"{spec.endpoint_variable} points to this endpoint: correct or unset it.",
        rules=spec.retry_rules,
        retry_options=retry_options,
    )
    if response.status != 200:
        raise _refusal(response, token_request, spec)
    check_identity(response, token_request.identity, required=False)
    return token_from(response, random())


def _request(
    spec: AppHostSpec, endpoint: str, token_request: TokenRequest, secret: Secret | None
) -> Request:
    identity_query = spec.identity_query(token_request.identity)
    headers: dict[str, str | Secret] = {**HEADERS}
    if secret is not None:
        if not secret.fits_a_header():
            raise Unavailable(
                f"{spec.secret_variable} cannot be sent in a header",
                "The host sets it to printable ASCII characters.",
                reason=Reason.INVALID_SETTING,
            )
        headers[spec.secret_header] = secret
    query = {"resource": token_request.resource}
    if not spec.api_version:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        form = url_with("", query).removeprefix("?").encode()
        return Request(endpoint, headers, "POST", form)
    query = {**query, "api-version": spec.api_version, **identity_query}
    return Request(url_with(endpoint, query), headers)


def _fingerprint(endpoint: str, thumbprint: str) -> str:
    """Return ``thumbprint`` as forty hexadecimal digits; refuse an endpoint without TLS."""
    digits = re.sub(r"[\s:]", "", thumbprint).lower()
    if not re.fullmatch(r"[0-9a-f]{40}", digits):
        raise Unavailable(
            "IDENTITY_SERVER_THUMBPRINT is not the SHA-1 thumbprint of a certificate",
            "Service Fabric sets it to forty hexadecimal digits.",
            reason=Reason.INVALID_SETTING,
        )
    if not endpoint.lower().startswith("https://"):
        raise Unavailable(
            "Service Fabric requires https: its certificate authenticates it",
            "Correct IDENTITY_ENDPOINT.",
            reason=Reason.INVALID_SETTING,
        )
    return digits


def _sha256(token: Token) -> str:
    import hashlib  # preloaded where the host needs it

    return hashlib.sha256(token.value.encode()).hexdigest()


def _refusal(response: Response, token_request: TokenRequest, spec: AppHostSpec) -> Failure:
    if response.status in (401, 403) and spec.secret_variable:
        return Refused(
            f"the service returned HTTP {response.status}: {response.error_text}",
            f"It identifies an app by {spec.secret_variable}: use this process's own value.",
            reason=reason_of(response),
            status=response.status,
            service_code=response.service_code,
        )
    return refusal(response, token_request)

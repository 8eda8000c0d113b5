"""The token exchange of App Service and of other app platforms.

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
from ..refusals import (
    check_identity,
    from_existing_service,
    not_assigned,
    reason_of,
    refusal,
)
from ..token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.secret import Secret
    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.exchange import Random, Steps
    from .spec import AppHostSpec

HEADERS = {"Metadata": "true"}
_UNAUTHORIZED = (401, 403)


def exchange(
    spec: AppHostSpec,
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions = DEFAULT_RETRY,
    *,
    secret: Secret | None = None,
    replaced_secret: Callable[[], Secret | None] | None = None,
    thumbprint: str | None = None,
) -> Steps[Token]:
    """Request one token.

    ``replaced_secret`` returns the secret that replaced ``secret`` in the environment, if any.

    The environment names the service. So if it does not respond, another kind of credential must
    not be used in its place.
    """
    request = _request(spec, endpoint, token_request, secret)
    if thumbprint is not None:
        request.certificate = _fingerprint(endpoint, thumbprint)
        if token_request.refused is not None:
            query = {"token_sha256_to_refresh": _sha256(token_request.refused)}
            request.url = url_with(request.url, query)
    steps = _token(spec, request, token_request, random, retry_options, replaced_secret)
    return (yield from from_existing_service(steps))


def _token(
    spec: AppHostSpec,
    request: Request,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions,
    replaced_secret: Callable[[], Secret | None] | None,
) -> Steps[Token]:
    response = yield from _response(spec, request, random, retry_options)
    new_secret = replaced_secret() if response.status in _UNAUTHORIZED and replaced_secret else None
    if new_secret is not None:
        request = _with_secret(spec, request, new_secret)
        response = yield from _response(spec, request, random, retry_options)
    if response.status != 200:
        raise _refusal(response, token_request, spec, was_replaced=new_secret is not None)
    check_identity(response, token_request.identity, required=False)
    return token_from(response, random())


def _response(
    spec: AppHostSpec, request: Request, random: Random, retry_options: RetryOptions
) -> Steps[Response]:
    return with_retries(
        request,
        random,
        unreachable_hint=f"{spec.endpoint_variable} points to this endpoint: correct or "
        "unset it, or try again if the host starts its service later than this program.",
        rules=spec.retry_rules,
        retry_options=retry_options,
        is_final=spec.is_final,
    )


def _request(
    spec: AppHostSpec, endpoint: str, token_request: TokenRequest, secret: Secret | None
) -> Request:
    query = {"resource": token_request.resource}
    if spec.sends_form:
        headers = {**HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
        form = url_with("", query).removeprefix("?").encode()
        request = Request(endpoint, headers, "POST", form)
    else:
        if spec.api_version:
            query["api-version"] = spec.api_version
        query |= spec.identity_query(token_request.identity)
        if token_request.cae:
            query["xms_cc"] = "cp1"
        request = Request(url_with(endpoint, query), HEADERS)
    return request if secret is None else _with_secret(spec, request, secret)


def _with_secret(spec: AppHostSpec, request: Request, secret: Secret) -> Request:
    if not secret.fits_a_header():
        raise Unavailable(
            f"{spec.secret_variable} cannot be sent in a header",
            "The host sets it to printable ASCII characters.",
            reason=Reason.INVALID_SETTING,
        )
    return request.with_header(spec.secret_header, secret)


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


def _refusal(
    response: Response, token_request: TokenRequest, spec: AppHostSpec, *, was_replaced: bool
) -> Failure:
    if response.status in _UNAUTHORIZED and spec.secret_variable:
        replaced = (
            f"{spec.secret_variable} was replaced in this process, and the service refused the old "
            "and the new value. "
        )
        return Refused(
            f"the service returned HTTP {response.status}: {response.error_text}",
            f"{replaced if was_replaced else ''}It identifies an app by {spec.secret_variable}: "
            "use this process's own value.",
            reason=reason_of(response),
            status=response.status,
            service_code=response.service_code,
        )
    if response.status in spec.final_statuses or spec.is_final(response):
        return not_assigned(
            response, token_request, f"Does {spec.endpoint_variable} name its token endpoint?"
        )
    return refusal(response, token_request)

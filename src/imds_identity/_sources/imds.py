"""Azure VM: the identity endpoint of the Instance Metadata Service (IMDS).

https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

from urllib.parse import urlsplit

from .._core.failure import Malformed, Reason, Refused, Unavailable
from .._http.messages import Request, Response, url_with
from .._http.retry import with_retries
from .._http.retry_options import DEFAULT_RETRY, RetryOptions
from .refusals import access_denied, check_identity, refusal
from .token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.exchange import Random, Steps
    from .host import HostSpec

API_VERSION = "2018-02-01"
HEADERS = {"Metadata": "true"}

PROBE_RETRY = RetryOptions(attempts=1, connect_seconds=1.0, request_seconds=1.0)
"""Used if this is not an Azure VM: a chain of credentials must not wait for long."""
_SLOW_PROBE_RETRY = PROBE_RETRY._replace(attempts=None, request_seconds=5.0)
"""Used if this may be an Azure VM: the first response of IMDS can take seconds. A response of IMDS
is retried as on an Azure VM."""

_BLOCKED = (
    "a firewall rule, a container network, or a pod's network policy blocks the Instance Metadata "
    "Service."
)
_NOT_AZURE = f"This does not look like an Azure VM, or {_BLOCKED}"
_ON_AZURE = f"This is an Azure VM according to its firmware: {_BLOCKED}"


def exchange(
    spec: HostSpec,
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions = DEFAULT_RETRY,
    variable: str = "",
    is_azure_vm: Callable[[], bool] = lambda: False,
    *,
    has_azure_firmware: bool = False,
) -> Steps[Token]:
    """Request one token.

    Args:
        spec: the host specification.
        endpoint: the URL of the token endpoint.
        token_request: the resource and the identity.
        random: adds jitter.
        retry_options: the caller's timeouts and retry policy.
        variable: the environment variable that named the endpoint, if there is one.
        is_azure_vm: returns whether the firmware or Azure's guest proxy agent shows that this is
            an Azure VM, for responses that do not show where they come from.
        has_azure_firmware: whether the firmware does, for messages.
    """

    def is_denial(response: Response) -> bool:
        return response.may_be_denial and (response.is_relayed_by_azure or is_azure_vm())

    def is_authentic(response: Response) -> bool:
        return _is_authentic(response, is_named=bool(variable)) or is_denial(response)

    query = {
        "api-version": API_VERSION,
        "resource": token_request.resource,
        **spec.identity_query(token_request.identity),
    }
    if token_request.claims:
        query["bypass_cache"] = "true"
    request = Request(url_with(endpoint, query), HEADERS)
    hint = _ON_AZURE if has_azure_firmware else _NOT_AZURE
    if variable:
        hint = f"{variable} points to this endpoint: correct or unset it."
    response = yield from _authentic_response(
        spec, request, token_request, random, retry_options, hint, is_authentic
    )
    if is_denial(response):
        raise access_denied(response, urlsplit(endpoint).path)
    if response.status == 404:
        raise _not_found(response, token_request, variable)
    if response.status != 200:
        raise refusal(response, token_request)
    check_identity(response, token_request.identity, required=False)
    return token_from(response, random())


def probe_options(options: RetryOptions, *, may_be_azure: bool) -> RetryOptions:
    """Return ``options`` with the defaults for a service that may not exist."""
    if not may_be_azure:
        return options.with_defaults(PROBE_RETRY)
    failures = 1 if options.attempts is None else None
    return options.with_defaults(
        _SLOW_PROBE_RETRY._replace(connect_attempts=failures, read_attempts=failures)
    )


def _authentic_response(
    spec: HostSpec,
    request: Request,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions,
    hint: str,
    is_authentic: Callable[[Response], bool],
) -> Steps[Response]:
    """Return IMDS's own response, with any status.

    Raises:
        Unavailable: if there is none, or if another program responded: another cloud's metadata
            service, a proxy, or a captive portal. A chain of credentials then continues.
    """
    try:
        response = yield from with_retries(
            request,
            random,
            hint,
            rules=spec.retry_rules,
            retry_options=retry_options,
            is_authentic=is_authentic,
        )
    except Malformed as failure:  # compressed, too large, or not HTTP
        raise Unavailable(failure.problem, hint, reason=Reason.WRONG_SERVICE) from None
    if is_authentic(response) and not response.is_from_docker:
        return response
    if response.is_redirect:
        raise refusal(response, token_request)
    text = response.content if response.status == 200 else response.error_text
    raise Unavailable(
        f"HTTP {response.status} did not come from IMDS: {text}",
        hint,
        reason=Reason.PROXY if response.is_from_docker else Reason.WRONG_SERVICE,
        status=response.status,
    )


def _not_found(response: Response, token_request: TokenRequest, variable: str) -> Refused:
    question = f" Does {variable} name the token service?" if variable else ""
    return Refused(
        f"the service keeps returning HTTP 404: {response.error_text}",
        f"It is being updated, or the {token_request.identity} is not assigned to this VM yet. "
        f"Check the assignment, or try again in a few minutes.{question}",
        reason=Reason.SERVICE_FAILING,
        status=404,
        service_code=response.service_code,
        retry_after=response.retry_after,
    )


def _is_authentic(response: Response, *, is_named: bool) -> bool:
    """Whether the token service sent this response: IMDS, or one that a variable names."""
    if response.is_relayed_by_azure or response.is_metadata_error:
        return True
    if response.status == 200:
        return _has_token(response)
    if response.status == 429 or response.status >= 500:
        return is_named
    return is_named and response.status >= 400 and not response.is_markup


def _has_token(response: Response) -> bool:
    try:
        fields = response.fields()
    except ValueError:
        return False
    return fields is not None and fields.get("access_token") is not None

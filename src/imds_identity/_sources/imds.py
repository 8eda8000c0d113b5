"""Azure VM: the managed-identity category of the Instance Metadata Service.

https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

from .._core.failure import Failure, Malformed, Reason, Unavailable, sanitize
from .._http.messages import Request, Response, url_with
from .._http.retry import with_retries
from .._http.retry_options import DEFAULT_RETRY, RetryOptions
from .refusals import check_identity, refusal
from .token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.exchange import Random, Steps

API_VERSION = "2018-02-01"
HEADERS = {"Metadata": "true"}

PROBE_RETRY = RetryOptions(attempts=1, connect_seconds=1.0, request_seconds=1.0)
"""Where this may be no Azure VM: a chain of credentials is waiting to go on."""

_NOT_AZURE = (
    "This does not look like an Azure VM, or something (a firewall rule, a container network, a "
    "pod without access) keeps the Instance Metadata Service from this process."
)


def exchange(
    endpoint: str,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions = DEFAULT_RETRY,
    variable: str = "",
) -> Steps[Token]:
    """One token from the IMDS token endpoint.

    Args:
        endpoint: where it is.
        token_request: what for, and as whom.
        random: spreads retries and refreshes.
        retry_options: what the caller wants otherwise.
        variable: the environment variable that named it, if one did.

    Raises:
        Failure: when there is none to be had.
    """
    query = {
        "api-version": API_VERSION,
        "resource": token_request.resource,
        **token_request.identity.query,
    }
    if token_request.claims:
        query["bypass_cache"] = "true"
    request = Request(url_with(endpoint, query), HEADERS)
    absent = f"{variable} says that it is there: mend or unset it." if variable else _NOT_AZURE
    response = yield from _own_answer(request, token_request, random, retry_options, absent)
    if response.status != 200:
        raise _refusal(response, token_request, absent)
    check_identity(response, token_request.identity, required=False)
    return token_from(response, random())


def _own_answer(
    request: Request,
    token_request: TokenRequest,
    random: Random,
    retry_options: RetryOptions,
    absent: str,
) -> Steps[Response]:
    """The metadata service's own answer, whatever it says.

    Raises:
        Unavailable: if nobody answers, or somebody else: another cloud's metadata service, a proxy,
            a captive portal. Then there is no managed identity here, and a chain goes on.
    """
    try:
        response = yield from with_retries(
            request,
            random,
            unreachable_hint=absent,
            retry_options=retry_options,
            is_authentic=_is_its_own,
        )
    except Malformed as failure:  # packed, too large, or no sound HTTP
        raise Unavailable(failure.problem, absent, reason=Reason.WRONG_SERVICE) from None
    if _is_its_own(response):
        return response
    if response.is_redirect:
        raise refusal(response, token_request)
    kind = sanitize(response.headers.get("content-type", "")) or "no content type"
    said = (
        f"{len(response.body)} bytes of {kind}" if response.status == 200 else response.error_text
    )
    raise Unavailable(
        f"what answers {response.status} is not the metadata service: {said}",
        absent,
        reason=Reason.WRONG_SERVICE,
        status=response.status,
    )


def _is_its_own(response: Response) -> bool:
    return (response.status == 200 and _has_token(response)) or response.is_metadata_error


def _has_token(response: Response) -> bool:
    try:
        fields = response.fields()
    except ValueError:
        return False
    return fields is not None and fields.get("access_token") is not None


def _refusal(response: Response, token_request: TokenRequest, absent: str) -> Failure:
    status, error_text = response.status, response.error_text
    if response.is_from_docker:
        problem = f"the service answered 403, {error_text}"
        return Unavailable(problem, absent, reason=Reason.PROXY, status=status)
    return refusal(response, token_request)

"""Azure VM: the managed-identity category of the Instance Metadata Service.

https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

from .._core.failure import Failure, Malformed, Unavailable, quote
from .._wire.answer import token_from
from .._wire.exchange import Random, Request, Response, Steps, url_with
from .._wire.patience import AS_USUAL, Patience
from .._wire.retry import answered
from .token_answer import check_identity, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._core.token import Token
    from .._core.token_request import TokenRequest

API_VERSION = "2018-02-01"
HEADERS = {"Metadata": "true"}

GIVING_WAY = Patience(attempts=1, connect_seconds=1.0, request_seconds=1.0)
"""Where this may be no Azure VM: a chain of credentials is waiting to go on."""

_NOT_AZURE = (
    "This does not look like an Azure VM, or something (a firewall rule, a container network, a "
    "pod without access) keeps the Instance Metadata Service from this process."
)


def exchange(
    endpoint: str,
    wanted: TokenRequest,
    random: Random,
    patience: Patience = AS_USUAL,
    variable: str = "",
) -> Steps[Token]:
    """One token from the IMDS token endpoint.

    Args:
        endpoint: where it is.
        wanted: what for, and as whom.
        random: spreads retries and refreshes.
        patience: what the caller wants otherwise.
        variable: the environment variable that named it, if one did.

    Raises:
        Failure: when there is none to be had.
    """
    query = {"api-version": API_VERSION, "resource": wanted.resource, **wanted.identity.query}
    if wanted.claims:
        query["bypass_cache"] = "true"
    request = Request(url_with(endpoint, query), HEADERS)
    absent = f"{variable} says that it is there: mend or unset it." if variable else _NOT_AZURE
    response = yield from _own_answer(request, wanted, random, patience, absent)
    if response.status != 200:
        raise _refusal(response, wanted, absent)
    check_identity(response, wanted.identity, required=False)
    return token_from(response, random())


def _own_answer(
    request: Request, wanted: TokenRequest, random: Random, patience: Patience, absent: str
) -> Steps[Response]:
    """The metadata service's own answer, whatever it says.

    Raises:
        Unavailable: if nobody answers, or somebody else: another cloud's metadata service, a proxy,
            a captive portal. Then there is no managed identity here, and a chain goes on.
    """
    try:
        response = yield from answered(
            request, random, absent=absent, patience=patience, is_own=_is_its_own
        )
    except Malformed as failure:  # packed, too large, or no sound HTTP
        raise Unavailable(failure.problem, absent) from None
    if _is_its_own(response):
        return response
    if 300 <= response.status < 400:
        raise refusal(response, wanted)
    kind = quote(response.headers.get("content-type", "")) or "no content type"
    said = f"{len(response.body)} bytes of {kind}" if response.status == 200 else response.words
    raise Unavailable(
        f"what answers {response.status} is not the metadata service: {said}",
        absent,
        status=response.status,
    )


def _is_its_own(response: Response) -> bool:
    return (response.status == 200 and _has_token(response)) or response.is_a_metadata_error


def _has_token(response: Response) -> bool:
    try:
        fields = response.fields()
    except ValueError:
        return False
    return fields is not None and fields.get("access_token") is not None


def _refusal(response: Response, wanted: TokenRequest, absent: str) -> Failure:
    status, words = response.status, response.words
    if status == 403 and "unreachable" in words:  # Docker Desktop, in its place
        return Unavailable(f"the service answered 403, {words}", absent, status=status)
    return refusal(response, wanted)

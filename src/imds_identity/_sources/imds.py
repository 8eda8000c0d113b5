"""Azure VM: the managed-identity category of the Instance Metadata Service.

https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.failure import Failure, Unavailable
from .._wire.answer import token_from
from .._wire.exchange import Random, Request, Response, Steps, url_with
from .._wire.retry import answered
from .token_answer import check_identity, refusal

if TYPE_CHECKING:
    from .._core.token import Token
    from .._core.token_request import TokenRequest

API_VERSION = "2018-02-01"
HEADERS = {"Metadata": "true"}

_NOT_AZURE = (
    "This does not look like an Azure VM, or something (a firewall rule, a container network, a "
    "pod without access) keeps the Instance Metadata Service from this process."
)


def exchange(endpoint: str, wanted: TokenRequest, random: Random) -> Steps[Token]:
    """One token from the IMDS token endpoint.

    Raises:
        Failure: when there is none to be had.
    """
    query = {"api-version": API_VERSION, "resource": wanted.resource, **wanted.identity.query}
    if wanted.claims:
        query["bypass_cache"] = "true"
    request = Request(url_with(endpoint, query), HEADERS)
    response = yield from answered(request, random, absent=_NOT_AZURE)
    if response.status != 200:
        raise _refusal(response, wanted)
    check_identity(response, wanted.identity, required=False)
    return token_from(response, random())


def _refusal(response: Response, wanted: TokenRequest) -> Failure:
    status, words = response.status, response.words
    if status == 400:
        return Unavailable(
            f"the service answered 400, {words}",
            f"Is the {wanted.identity} assigned to this VM, and is {wanted.resource!r} a resource "
            "of its tenant? With several user-assigned identities one must be selected.",
            status=status,
        )
    if status == 403 and "unreachable" in words:
        return Unavailable(f"the service answered 403, {words}", _NOT_AZURE, status=status)
    return refusal(response)

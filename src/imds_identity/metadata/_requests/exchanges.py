"""One exchange for each category of the metadata service.

All are retried after 410, 429, and 5xx, as token requests are. A 404 is final, unless the version
causes it or the load balancer's metadata is not available yet.
https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#errors-and-debugging
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ..._core.failure import Failure, Malformed, Reason, Refused, Unavailable, sanitize
from ..._http.exchange import ConnectFailed, Steps, TransportError
from ..._http.messages import REQUEST_SECONDS, Request, Response
from ..._http.retry import TOKEN_RULES, fresh_response, unreachable_failure, with_retries
from ..._http.retry_options import RetryOptions
from ..._sources.azure_vm import is_azure_vm
from ..._sources.refusals import access_denied, redirect_failure
from .._models.instance import is_partial
from .._models.load_balancer import LoadBalancer
from .._models.parsing import from_json
from .failures import ElementNotFound, UnsupportedOnHost, UnsupportedVersion
from .versions import (
    INTRODUCED_IN,
    newest_common_version,
    versions_in,
    versions_of,
    widespread_versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .endpoint import ServiceEndpoint

T = TypeVar("T")
Versioned: TypeAlias = tuple[T, str]
"""The document of a category, and the API version that it was requested with."""

RETRY_RULES = {status: rule for status, rule in TOKEN_RULES.items() if status != 404}
_RETRY = RetryOptions(connect_attempts=3)  # this may not be an Azure VM
FIRST_EVENTS_SECONDS = 130.0  # the first request for scheduled events enables the service

_NO_LOAD_BALANCER = "no load balancer metadata is found"
_NO_SERVICE = (
    "This does not look like an Azure VM, or something (a firewall rule, a container network, a "
    "pod without access) blocks the Instance Metadata Service for this process."
)


def versions(endpoint: ServiceEndpoint) -> Steps[tuple[str, ...]]:
    """Fetch the API versions that the service supports."""
    response = yield from _send(endpoint, Request(endpoint.url("versions"), endpoint.headers))
    document = _parse(response, "versions")
    listed = document.get("apiVersions") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise Malformed("the response has no list apiVersions", status=response.status)
    return tuple(each for each in listed if isinstance(each, str))


def instance(endpoint: ServiceEndpoint, version: str | None = None) -> Steps[Versioned[object]]:
    """Fetch the instance document."""
    document, used = yield from _fetch(endpoint, "instance", version)
    if not is_partial(document):
        return document, used
    try:
        # With this parameter of cloud-init, the service fails rather than return a part.
        return (yield from _fetch(endpoint, "instance", used, {"extended": "true"}))
    except Refused as failure:
        if failure.status != 400:
            raise
        return document, used  # the service does not know the parameter


def identity_info(endpoint: ServiceEndpoint, version: str | None = None) -> Steps[Versioned[str]]:
    """Fetch the tenant of the machine's identities."""
    document, used = yield from _fetch(endpoint, "identity/info", version)
    tenant = document.get("tenantId") if isinstance(document, dict) else None
    if not isinstance(tenant, str) or not tenant:
        raise Malformed("the response has no tenantId")
    return tenant, used


def load_balancer(
    endpoint: ServiceEndpoint, version: str | None = None
) -> Steps[Versioned[LoadBalancer]]:
    """Fetch the load balancer document: an empty `LoadBalancer` if there is none."""
    try:
        document, used = yield from _fetch(
            endpoint, "loadbalancer", version, is_final=_has_no_load_balancer_now
        )
    except ElementNotFound as failure:
        if _NO_LOAD_BALANCER in failure.problem.lower():
            return LoadBalancer(), version or versions_of("loadbalancer")[-1]
        hint = "This does not mean that there is none. Try again later."
        raise Refused(failure.problem, hint, reason=Reason.SERVICE_FAILING, status=404) from None
    if not isinstance(document, dict):
        raise Malformed("the response is not a JSON object")
    return LoadBalancer.parse(document.get("loadbalancer")), used


def _has_no_load_balancer_now(response: Response) -> bool:
    """Return whether a 404 is final: the service adds "retry later" to others."""
    return response.status == 404 and "available" not in response.error_text.lower()


def attested(
    endpoint: ServiceEndpoint, version: str | None = None, *, nonce: str | None
) -> Steps[Versioned[str]]:
    """Fetch the signature of an attested document; without a nonce the service uses the time."""
    query = {} if nonce is None else {"nonce": nonce}
    document, used = yield from _fetch(endpoint, "attested/document", version, query)
    fields = document if isinstance(document, dict) else {}
    signature = fields.get("signature")
    if fields.get("encoding") != "pkcs7" or not isinstance(signature, str):
        raise Malformed("the response has no signature in the encoding pkcs7")
    return signature, used


def events(
    endpoint: ServiceEndpoint, version: str | None = None, *, first: bool
) -> Steps[Versioned[object]]:
    """Fetch the scheduled events; ``first`` if this may be the first request of the machine."""
    seconds = FIRST_EVENTS_SECONDS if first else REQUEST_SECONDS
    return (yield from _fetch(endpoint, "scheduledevents", version, seconds=seconds))


def start_events(
    endpoint: ServiceEndpoint, version: str | None = None, *, body: bytes
) -> Steps[Versioned[None]]:
    """Approve events with the body from `events.start_request`, so that they start immediately."""
    response, used = yield from _request(endpoint, "scheduledevents", version, body=body)
    if response.status not in (200, 202, 204):
        raise refusal(response, "scheduledevents")
    return None, used


def _send(
    endpoint: ServiceEndpoint,
    request: Request,
    is_final: Callable[[Response], bool] | None = None,
) -> Steps[Response]:
    """Send a request; with ``is_final``, a 404 is retried unless it returns True."""
    if endpoint.retry:
        rules = TOKEN_RULES if is_final else RETRY_RULES
        send = with_retries(request, endpoint.random, _NO_SERVICE, rules, _RETRY, is_final=is_final)
        return (yield from send)
    try:
        return (yield from fresh_response(request))
    except ConnectFailed as error:
        raise unreachable_failure(error, _NO_SERVICE) from None
    except TransportError as error:
        problem = f"the metadata service did not respond ({sanitize(str(error))})"
        raise Refused(problem, reason=Reason.NO_RESPONSE) from None


def _fetch(
    endpoint: ServiceEndpoint,
    path: str,
    version: str | None,
    query: Mapping[str, str] | None = None,
    *,
    seconds: float = REQUEST_SECONDS,
    is_final: Callable[[Response], bool] | None = None,
) -> Steps[Versioned[object]]:
    """Fetch a document."""
    response, used = yield from _request(
        endpoint, path, version, query, seconds=seconds, is_final=is_final
    )
    return _parse(response, path.partition("/")[0]), used


def _request(
    endpoint: ServiceEndpoint,
    path: str,
    version: str | None,
    query: Mapping[str, str] | None = None,
    *,
    body: bytes | None = None,
    seconds: float = REQUEST_SECONDS,
    is_final: Callable[[Response], bool] | None = None,
) -> Steps[Versioned[Response]]:
    """Send a GET, or a POST of ``body``; negotiate an API version that is not pinned."""
    category = path.partition("/")[0]

    def request_with(number: str) -> Steps[Response]:
        url = endpoint.url(path, {"api-version": number, **(query or {})})
        request = Request(url, endpoint.headers, seconds=seconds)
        if body is not None:
            request = request.with_header("Content-Type", "application/json")
            request.method, request.body = "POST", body
        return (yield from _send(endpoint, request, is_final))

    used = endpoint.pinned_version or version or versions_of(category)[-1]
    response = yield from request_with(used)
    # A POST is not repeated for a 400 without a reason: it may concern the body.
    is_candidate = _may_be_version_error if body is None else _is_version_error
    if endpoint.pinned_version is None and is_candidate(response):
        for other in (yield from _other_versions(endpoint, category, used, response)):
            used, response = other, (yield from request_with(other))
            if not _is_version_error(response):
                break
    return response, used


def _other_versions(
    endpoint: ServiceEndpoint, category: str, used: str, response: Response
) -> Steps[tuple[str, ...]]:
    """Return the versions to try after the service refused ``used``, possibly for its version."""
    listed = _listed_versions(response, used)
    version = newest_common_version(versions_of(category), listed)
    if not listed or (version is not None and version not in listed):
        # The error lists only the newest versions, all unknown here: the full list may have others.
        try:
            offered: list[object] = [*(yield from versions(endpoint))]
        except (Refused, Malformed, Unavailable):
            offered = listed
            if not listed:
                return widespread_versions(category) if _is_version_error(response) else ()
        if used in offered:
            return ()
        version = newest_common_version(versions_of(category), offered)
        listed = offered
    if version is None:
        newest = sanitize(str(max(map(str, listed), default="none")))
        raise UnsupportedOnHost(
            f"the service supports API versions up to {newest}, but {category} requires "
            f"{INTRODUCED_IN[category]}",
            "Some regions, and Azure Stack Hub, do not have every category.",
            status=response.status,
        )
    return (version,)


def _may_be_version_error(response: Response) -> bool:
    """Return whether the version may be the reason: some clouds respond without any text."""
    has_no_balancer = _NO_LOAD_BALANCER in response.error_text.lower()
    return response.status in (400, 404) and not has_no_balancer


def _is_version_error(response: Response) -> bool:
    text = response.error_text.lower()
    return response.status in (400, 404) and (
        bool(_newest_versions(response)) or "api-version" in text or "invalid version" in text
    )


def _listed_versions(response: Response, used: str) -> list[object]:
    """Return the versions in an error response, as JSON or in words."""
    in_words = [each for each in versions_in(response.error_text) if each != used]
    return _newest_versions(response) or [*in_words]


def _newest_versions(response: Response) -> list[object]:
    try:
        document = from_json(response.body)
    except Malformed:
        return []
    listed = document.get("newest-versions") if isinstance(document, dict) else None
    return listed if isinstance(listed, list) else []


def _parse(response: Response, category: str) -> object:
    if response.status != 200:
        raise refusal(response, category)
    try:
        return from_json(response.body)
    except Malformed:
        raise Malformed(
            f"the response for {category} is not JSON",
            "It may have come from another service at this address.",
            status=200,
        ) from None


def refusal(response: Response, category: str) -> Failure:
    """Return the failure for a response other than 200."""
    status, error_text = response.status, response.error_text
    if response.may_be_denial and (response.is_relayed_by_azure or is_azure_vm()):
        return access_denied(response, f"/metadata/{category}")
    problem = f"the metadata service returned HTTP {status} for {category}: {error_text}"
    if status == 404 and not _is_version_error(response):
        hint = "Names are case-sensitive, and some exist in newer API versions only."
        return ElementNotFound(problem, hint, status=404)
    if response.is_redirect:
        return redirect_failure(response)
    if response.is_from_docker:
        return Unavailable(problem, _NO_SERVICE, reason=Reason.PROXY, status=status)
    if _is_version_error(response):
        hint = "Leave out api_version to use a supported version."
        return UnsupportedVersion(problem, hint, status=status)
    return _refused(problem, response)


def _refused(problem: str, response: Response) -> Refused:
    status = response.status
    hint, reason, wait = "", Reason.REFUSED, response.retry_after
    if status == 429:
        hint = "A category allows five requests a second per VM: find the process that sends more."
        reason = Reason.THROTTLED
    elif status == 410 or status >= 500:
        hint = "The service is being updated or is failing; this usually ends within minutes."
        reason = Reason.SERVICE_FAILING
    elif status == 403:
        hint = "Another service may have responded here: run imds-identity doctor to find out."
    return Refused(problem, hint, reason=reason, status=status, retry_after=wait)

"""One exchange for each category of the metadata service, each with its own retry rules.

| category        | a 404 means                     | and it may take                      |
|-----------------|---------------------------------|--------------------------------------|
| instance        | there is no such element: final | as long as any request               |
| loadbalancer    | there is no load balancer       | as long as any request               |
| attested        | it has none: final              | as long as any request               |
| identity/info   | it has none: final              | as long as any request               |
| scheduledevents | it has none: final              | 130 s the first time, for a machine  |

All of them are asked again after 410, 429 and 5xx, as tokens are.
https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#errors-and-debugging
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ..._core.failure import Failure, Malformed, Reason, Refused, Unavailable, sanitize
from ..._http.exchange import ConnectFailed, Random, Steps, TransportError
from ..._http.messages import REQUEST_SECONDS, Request, Response, url_with
from ..._http.retry import TOKEN_RULES, fresh_response, unreachable, with_retries
from ..._sources.refusals import redirect_failure
from .._models.load_balancer import LoadBalancer
from .._models.parsing import from_json
from .failures import NotFound, NotOffered, UnknownVersion
from .versions import INTRODUCED, known_to, newest_of_both

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RULES = {status: rule for status, rule in TOKEN_RULES.items() if status != 404}
FIRST_EVENTS_SECONDS = 130.0
"""Seconds that the first answer of scheduled events may take: the service is being enabled."""

_ABSENT = (
    "This does not look like an Azure VM, or something (a firewall rule, a container network, a "
    "pod without access) keeps the Instance Metadata Service from this process."
)


class Service(NamedTuple):
    """The service to ask.

    Attributes:
        base: its address, such as ``http://169.254.169.254``.
        random: spreads the pauses.
        pinned: the api-version to ask with, come what may; None to agree on one.
        host: its name, if `base` has its address in place of that.
    """

    base: str
    random: Random
    pinned: str | None = None
    host: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of every request."""
        return {"Metadata": "true", **({"Host": self.host} if self.host else {})}


class Answer(NamedTuple):
    """What a category said, and the api-version that it said it by, to be remembered."""

    document: Any
    version: str


def versions(service: Service) -> Steps[tuple[str, ...]]:
    """The api-versions that the service knows."""
    request = Request(f"{service.base}/metadata/versions", service.headers)
    response = yield from _persistently(service, request)
    document = _json_of(response, "versions")
    listed = document.get("apiVersions") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise Malformed("the answer lists no apiVersions", status=response.status)
    return tuple(each for each in listed if isinstance(each, str))


def instance(service: Service, version: str | None = None) -> Steps[Answer]:
    """The instance document.

    Args:
        service: whom to ask.
        version: the api-version agreed on before, if there was one.
    """
    return (yield from _asked(service, "instance", "instance", version))


def instance_once(service: Service, version: str | None = None, *, seconds: float) -> Steps[Answer]:
    """The instance document for who asks again soon anyway: one try, of so many seconds."""
    return (yield from _asked(service, "instance", "instance", version, seconds=seconds, ask=_once))


def identity_info(service: Service, version: str | None = None) -> Steps[Answer]:
    """The tenant of the machine's identities."""
    answer = yield from _asked(service, "identity", "identity/info", version)
    tenant = answer.document.get("tenantId") if isinstance(answer.document, dict) else None
    if not isinstance(tenant, str) or not tenant:
        raise Malformed("the answer has no tenantId")
    return answer._replace(document=tenant)


def load_balancer(service: Service, version: str | None = None) -> Steps[Answer]:
    """What stands in front of the machine: an empty `LoadBalancer` where nothing does."""
    try:
        answer = yield from _asked(service, "loadbalancer", "loadbalancer", version)
    except NotFound:
        return Answer(LoadBalancer(), version or known_to("loadbalancer")[-1])
    if not isinstance(answer.document, dict):
        raise Malformed("the answer is no JSON object")
    return answer._replace(document=LoadBalancer.parse(answer.document.get("loadbalancer")))


def attested(service: Service, nonce: str | None, version: str | None = None) -> Steps[Answer]:
    """The signature of an attested document, which is verified elsewhere.

    Args:
        service: whom to ask.
        nonce: what the document shall repeat; the service puts the time if there is none.
        version: the api-version agreed on before, if there was one.
    """
    query = {} if nonce is None else {"nonce": nonce}
    answer = yield from _asked(service, "attested", "attested/document", version, query)
    document = answer.document if isinstance(answer.document, dict) else {}
    signature = document.get("signature")
    if document.get("encoding") != "pkcs7" or not isinstance(signature, str):
        raise Malformed("the answer has no signature in the encoding pkcs7")
    return answer._replace(document=signature)


def events(
    service: Service, version: str | None = None, *, first: bool, retry: bool = True
) -> Steps[Answer]:
    """The document of scheduled events.

    Args:
        service: whom to ask.
        version: the api-version agreed on before, if there was one.
        first: whether the machine may never have asked before, which enables the service.
        retry: whether to ask until there is an answer; False is for who asks every second anyway.
    """
    seconds = FIRST_EVENTS_SECONDS if first else REQUEST_SECONDS
    path, ask = "scheduledevents", _persistently if retry else _once
    return (yield from _asked(service, path, path, version, seconds=seconds, ask=ask))


def start_events(service: Service, version: str | None = None, *, body: bytes) -> Steps[Answer]:
    """Approve events, so that they start at once.

    Args:
        service: whom to ask.
        version: the api-version that the events were read by.
        body: what `events.approval` makes.
    """
    asked_by = service.pinned or version or known_to("scheduledevents")[-1]
    url = url_with(f"{service.base}/metadata/scheduledevents", {"api-version": asked_by})
    headers = {**service.headers, "Content-Type": "application/json"}
    request = Request(url, headers, method="POST", body=body)
    response = yield from _persistently(service, request)
    if response.status not in (200, 202, 204):
        raise refusal(response, "scheduledevents")
    return Answer(None, asked_by)


def _persistently(service: Service, request: Request) -> Steps[Response]:
    return (yield from with_retries(request, service.random, _ABSENT, RULES))


def _once(service: Service, request: Request) -> Steps[Response]:
    del service
    try:
        return (yield from fresh_response(request))
    except ConnectFailed as error:
        raise unreachable(error, _ABSENT) from None
    except TransportError as error:
        problem = f"the service did not answer ({sanitize(str(error))})"
        raise Refused(problem, reason=Reason.NO_RESPONSE) from None


def _asked(
    service: Service,
    category: str,
    path: str,
    version: str | None,
    query: Mapping[str, str] | None = None,
    seconds: float = REQUEST_SECONDS,
    ask: Callable[[Service, Request], Steps[Response]] = _persistently,
) -> Steps[Answer]:
    """Ask by the version that is pinned or was agreed on; else agree on one and ask by that."""

    def by(number: str) -> Steps[Response]:
        url = url_with(f"{service.base}/metadata/{path}", {"api-version": number, **(query or {})})
        return (yield from ask(service, Request(url, service.headers, seconds=seconds)))

    asked_by = service.pinned or version or known_to(category)[-1]
    response = yield from by(asked_by)
    if service.pinned is None and _complains_of_version(response):
        asked_by = yield from _agreed(service, category, response)
        response = yield from by(asked_by)
    return Answer(_json_of(response, category), asked_by)


def _agreed(service: Service, category: str, response: Response) -> Steps[str]:
    """The version to ask by, after this complaint of another one."""
    known = known_to(category)
    offered: Iterable[object] = _newest_versions(response) or (yield from versions(service))
    version = newest_of_both(known, offered)
    if version is not None and version not in offered:
        # Only the newest are listed and we know none of them: all of them may tell more.
        with suppress(Refused, Malformed):
            version = newest_of_both(known, (yield from versions(service)))
    if version is None:
        newest = sanitize(str(max(map(str, offered), default="none")))
        raise NotOffered(
            f"the service here knows api-versions up to {newest}, and {category} came with "
            f"{INTRODUCED[category]}",
            "Not every region, nor Azure Stack Hub, has every category.",
            status=response.status,
        )
    return version


def _complains_of_version(response: Response) -> bool:
    return response.status == 400 and (
        bool(_newest_versions(response)) or "api-version" in response.error_text
    )


def _newest_versions(response: Response) -> list[object]:
    try:
        document = from_json(response.body)
    except Malformed:
        return []
    listed = document.get("newest-versions") if isinstance(document, dict) else None
    return listed if isinstance(listed, list) else []


def _json_of(response: Response, category: str) -> Any:
    if response.status != 200:
        raise refusal(response, category)
    try:
        return from_json(response.body)
    except Malformed:
        raise Malformed(
            f"the answer of {category} is not JSON",
            "Something else than the metadata service may answer in its place.",
            status=200,
        ) from None


def refusal(response: Response, category: str) -> Failure:
    """Why an answer other than 200 is none."""
    status, words = response.status, response.error_text
    said = f"the service answered {status} for {category}, {words}"
    if status == 404:
        return NotFound(
            said, "Names are case-sensitive, and newer than some api-versions.", status=404
        )
    if response.is_redirect:
        return redirect_failure(response)
    if response.is_from_docker:
        return Unavailable(said, _ABSENT, reason=Reason.PROXY, status=status)
    if _complains_of_version(response):
        return UnknownVersion(said, "Leave api_version out to use one that is known.", status=400)
    wait = response.retry_after
    if status == 429:
        hint = "A VM may send five requests a second to each category: find what asks so often."
        return Refused(said, hint, reason=Reason.THROTTLED, status=status, retry_after=wait)
    hint, reason = "", Reason.REFUSED
    if status == 410 or status >= 500:
        hint = "It is being updated or is ill; that mostly passes within minutes."
        reason = Reason.SERVICE_FAILING
    elif status == 403:
        hint = "Something else may answer in its place: imds-identity doctor finds out what."
    return Refused(said, hint, reason=reason, status=status, retry_after=wait)

"""Workload identity: a Kubernetes token, exchanged for one of Microsoft Entra ID.

MSAL builds the request, and the package's own HTTP code sends it: MSAL would send two more
requests, without limits on time and size.

https://learn.microsoft.com/azure/aks/workload-identity-overview
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import json
from contextlib import suppress

from .._core.failure import Failure, Reason, Refused, Unavailable, sanitize
from .._core.secret import Secret
from .._http.local_errors import local_failure
from .._http.messages import Request, Response
from .._http.retry import with_retries
from .._http.retry_options import DEFAULT_RETRY, RetryOptions
from .refusals import check_identity, from_existing_service, reason_of, refusal
from .token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.token import Token
    from .._core.token_request import TokenRequest
    from .._http.exchange import Random, Steps
    from .._http.messages import ServerTls
    from .host import HostSpec

_PATH = "/oauth2/v2.0/token"
_MAX_ASSERTION = 65536


def exchange(
    spec: HostSpec,
    authority: str,
    variable: str,
    token_request: TokenRequest,
    random: Random,
    assertion: Secret,
    retry_options: RetryOptions = DEFAULT_RETRY,
    server_tls: ServerTls | None = None,
) -> Steps[Token]:
    """Request one token.

    ``authority`` is the URL of Microsoft Entra ID with the tenant, and ``variable`` the
    environment variable that contains it. ``assertion`` is the workload's own token.
    """
    spec.identity_query(token_request.identity)
    if not authority.lower().startswith("https://"):
        raise Unavailable(
            f"{variable} must begin with https: the workload's own token is sent there",
            f"Correct or unset {variable}.",
            reason=Reason.INVALID_SETTING,
        )
    try:
        request = _request(authority, token_request, assertion)
        request.server_tls = server_tls
        # A pod's network may start later than its program, for example in a service mesh.
        responses = with_retries(
            request,
            random,
            unreachable_hint=f"{variable} points to this endpoint: correct or unset it, or try "
            "again if the network of the pod starts later than this program.",
            rules=spec.retry_rules,
            retry_options=retry_options,
        )
        steps = _token(spec, responses, token_request, random)
        return (yield from from_existing_service(steps))
    except Failure as failure:
        # The service may echo what it received. The runner knows the secrets of headers only.
        failure.redact(assertion)
        raise


def _token(
    spec: HostSpec, steps: Steps[Response], token_request: TokenRequest, random: Random
) -> Steps[Token]:
    response = yield from steps
    if response.status != 200:
        raise _refusal(spec, response, token_request)
    check_identity(response, token_request.identity, required=False)
    return token_from(response, random())


def read_assertion(path: str) -> Secret:
    """Return the workload's own token. Kubernetes replaces the file: read it for each exchange.

    Raise Unavailable if the file cannot be used.
    """
    reason = ""
    try:
        with open(path, "rb") as file:  # as text, it would import a codec
            assertion = Secret(file.read(_MAX_ASSERTION + 1).strip().decode("ascii"))
    except (OSError, ValueError) as error:
        if failure := local_failure(error):
            raise failure from None
        reason = getattr(error, "strerror", None) or type(error).__name__
    else:
        if 0 < len(assertion) <= _MAX_ASSERTION:
            return assertion
        reason = "it does not contain a token"
    raise Unavailable(
        f"{sanitize(path)!r} cannot be used: {reason}",
        "AZURE_FEDERATED_TOKEN_FILE names the file with this workload's token.",
        reason=Reason.FEDERATED_TOKEN,
    )


def import_msal() -> None:
    """Import MSAL, and what it imports for a request if that is installed."""
    import msal

    with suppress(ImportError):
        import msal_extensions

        del msal_extensions
    del msal


def _request(authority: str, token_request: TokenRequest, assertion: Secret) -> Request:
    """Return the token request that MSAL builds."""
    import msal  # heavy: see `import_msal`

    recorder = _Recorder(authority)
    try:
        app = msal.ConfidentialClientApplication(
            token_request.identity.value,
            authority=authority,
            instance_discovery=False,
            client_credential={"client_assertion": assertion.reveal},
            client_capabilities=["CP1"] if token_request.cae else None,
            http_client=recorder,
        )
        scopes = [f"{token_request.resource}/.default"]
        app.acquire_token_for_client(scopes, claims_challenge=token_request.claims)
    except Exception as error:  # noqa: BLE001 - MSAL documents none
        reason = f" ({type(error).__name__}: {sanitize(str(error))})"
    else:
        if recorder.request is not None:
            return recorder.request
        reason = ""
    # Not inside the handler: an exception's context keeps MSAL's frames with the assertion alive.
    if token_request.claims:
        raise Refused(
            f"the claims are not a JSON object with an object access_token{reason}",
            "Pass the claims of the service's challenge, base64-decoded.",
            reason=Reason.BAD_REQUEST,
        )
    raise Refused(
        f"MSAL did not build a token request{reason}",
        "AZURE_TENANT_ID and AZURE_CLIENT_ID must be those of the app registration.",
        reason=Reason.INVALID_SETTING,
    )


class _Recorder:
    """An HTTP client for MSAL that keeps the token request and sends nothing."""

    def __init__(self, authority: str) -> None:
        self.request: Request | None = None
        self._authority = authority

    def get(self, url: str, **_: object) -> _RecorderResponse:  # noqa: ARG002
        """Return the authority's metadata, which follows from its URL."""
        return _RecorderResponse(
            200,
            {
                "issuer": f"{self._authority}/v2.0",
                "authorization_endpoint": f"{self._authority}/oauth2/v2.0/authorize",
                "token_endpoint": self._authority + _PATH,
            },
        )

    def post(self, url: str, data: Mapping[str, str], **_: object) -> _RecorderResponse:  # noqa: ARG002
        """Keep the request, without the field that requests information about a user."""
        from urllib.parse import urlencode

        form = {name: value for name, value in data.items() if name != "client_info"}
        self.request = Request(
            self._authority + _PATH,
            {"Content-Type": "application/x-www-form-urlencoded"},
            "POST",
            urlencode(form).encode(),
            over_internet=True,
        )
        return _RecorderResponse(400, {"error": "not_sent_yet"})

    def close(self) -> None:
        """Do nothing."""


class _RecorderResponse:
    """The part of an HTTP response that MSAL reads."""

    def __init__(self, status: int, fields: Mapping[str, str]) -> None:
        self.status_code = status
        self.text = json.dumps(fields)
        self.headers: Mapping[str, str] = {}

    def raise_for_status(self) -> None:
        """Do nothing: MSAL reads the status."""


def _refusal(spec: HostSpec, response: Response, token_request: TokenRequest) -> Failure:
    status = response.status
    if status < 400 or status in spec.retry_rules:
        return refusal(response, token_request)
    return Refused(
        f"Microsoft Entra ID returned HTTP {status}: {response.error_text}",
        f"Does {token_request.identity} have a federated credential for this workload, in the "
        "tenant that AZURE_TENANT_ID names?",
        reason=reason_of(response),
        status=status,
        service_code=response.service_code,
    )

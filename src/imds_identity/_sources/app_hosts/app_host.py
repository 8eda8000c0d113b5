"""Hosts of apps: App Service, Service Fabric, Azure ML, and Cloud Shell.

One request returns a token, and a secret in the app's environment identifies the app.
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
https://learn.microsoft.com/azure/service-fabric/how-to-managed-identity-service-fabric-app-code
https://learn.microsoft.com/azure/cloud-shell/msi-authorization
"""

from __future__ import annotations

import re

from ..._core.failure import Failure, Reason, Refused, Unavailable
from ..._core.secret import Secret
from ..._http.messages import Request, Response, url_with
from ..._http.retry import with_retries
from ..._http.retry_options import DEFAULT_RETRY, RetryOptions
from ..host import HostSpec, TokenSource, are_set
from ..refusals import check_identity, reason_of, refusal
from ..token_parsing import token_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._core.identity import Identity
    from ..._core.token import Token
    from ..._core.token_request import TokenRequest
    from ..._http.exchange import Random, Steps
    from ..._http.runner import ExchangeRunner
    from ..._platform.environment import Environment

HEADERS = {"Metadata": "true"}


class AppHostSpec(HostSpec):
    """A host of apps.

    Args:
        name: see `HostSpec`.
        label: see `HostSpec`.
        endpoint_variable: the environment variable with the endpoint.
        secret_variable: the one with the app's secret, if there is one.
        thumbprint_variable: the one with the thumbprint of the host's certificate, if any.
        secret_header: the request header for the secret.
        api_version: the version of the protocol; without one, requests are forms.
        also_sets: other variables that the host sets.
        selectors: see `HostSpec`.
    """

    def __init__(
        self,
        name: str,
        label: str,
        endpoint_variable: str,
        secret_variable: str = "",
        thumbprint_variable: str = "",
        *,
        secret_header: str = "",
        api_version: str = "",
        also_sets: tuple[str, ...] = (),
        selectors: Mapping[str, str] | None = None,
    ) -> None:
        required = tuple(filter(None, (endpoint_variable, secret_variable, thumbprint_variable)))
        super().__init__(
            name,
            label,
            self._build,
            conditions=are_set(*required),
            variables=(*required, *also_sets),
            selectors=selectors,
        )
        self.endpoint_variable = endpoint_variable
        self.secret_variable = secret_variable
        self.thumbprint_variable = thumbprint_variable
        self.secret_header = secret_header
        self.api_version = api_version

    def _build(self, environment: Environment) -> AppHostSource:
        secret = Secret(environment[self.secret_variable]) if self.secret_variable else None
        thumbprint = environment[self.thumbprint_variable] if self.thumbprint_variable else None
        return AppHostSource(self, environment[self.endpoint_variable], secret, thumbprint)


class AppHostSource(TokenSource):
    """The token endpoint of a host of apps.

    Attributes:
        secret: identifies this app, if the host requires that.
        thumbprint: of Service Fabric's certificate.
    """

    spec: AppHostSpec

    def __init__(
        self,
        spec: AppHostSpec,
        endpoint: str,
        secret: Secret | None = None,
        thumbprint: str | None = None,
    ) -> None:
        super().__init__(spec, endpoint, spec.endpoint_variable)
        self.secret = secret
        self.thumbprint = thumbprint
        # By resource and identity: requests to Service Fabric name the token that was refused.
        self._last: dict[tuple[str, str], Token] = {}

    def check_selector(self, identity: Identity) -> None:
        """Raise ValueError for any selector in Cloud Shell: its identity is the user's own."""
        if not self.spec.secret_variable and identity.selector:
            raise ValueError(
                f"{self.label} issues tokens for its own user only, and the {identity} was "
                "selected; omit the selector"
            )

    def preload(self) -> None:
        """Import what a claims challenge needs."""
        super().preload()
        if self.thumbprint is not None:
            import hashlib

            del hashlib

    def fetch(self, token_request: TokenRequest, runner: ExchangeRunner) -> Token:
        """Request a token: usually one request."""
        key = token_request.resource, token_request.identity.value
        steps = exchange(
            self.spec,
            self.endpoint,
            token_request,
            runner.random,
            runner.retry_options,
            secret=self.secret,
            thumbprint=self.thumbprint,
            refused=self._last.get(key) if token_request.claims else None,
        )
        token = self._last[key] = runner.run(steps)
        return token


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
        thumbprint: of Service Fabric's certificate.
        refused: the token that a claims challenge is about; Service Fabric replaces it.
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
    """Return ``thumbprint`` as forty hexadecimal digits, if TLS is going to check it."""
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

"""The token endpoint of Azure Arc's agent (HIMDS), with its challenge for privileged users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._machine.identities import find_identity
from .._messages import json_response
from .request_checks import ApiError, StateEndpoint, check_request
from .token import TokenEndpoint

if TYPE_CHECKING:
    from .._machine.identities import Identity, Selector
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.key_files import KeyFiles
    from .._state.state import EmulatorState


# As the error of a live agent lists them, in this order.
VERSIONS = ("2021-02-01", "2020-06-01", "2019-11-01", "2019-08-15")


def check_version(request: Request, state: EmulatorState) -> None:
    """Raise ApiError for an unknown api-version; the agent lists its own in words only."""
    check_request(request, introduced=None, supported=[])
    supported = [version for version in VERSIONS if version in state.versions]
    if request.parameter("api-version") not in supported:
        listed = " ".join(supported)
        raise ApiError(400, f"The api-version not specified. Supported are {listed}")


class ArcInfoEndpoint(StateEndpoint):
    """``/metadata/identity/info``: the tenant."""

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_version(request, self._state)
        return json_response(200, {"tenantId": self._state.machine.tenant_id})


class ArcTokenEndpoint(TokenEndpoint):
    """``/metadata/identity/oauth2/token`` of Arc's agent.

    With ``ignores_selector`` it behaves like older agents: it always returns a token for the
    system-assigned identity, and does not echo the selector.
    """

    always_names_client = False

    def __init__(self, state: EmulatorState, keys: KeyFiles, *, ignores_selector: bool) -> None:
        super().__init__(state)
        self._keys = keys
        self._ignores_selector = ignores_selector

    def check(self, request: Request) -> None:
        """Raise ApiError for an unknown api-version."""
        check_version(request, self._state)

    def authorize(self, request: Request) -> None:
        """Raise the challenge, unless the request has the secret of an earlier one."""
        scheme, _, secret = (request.header("authorization") or "").partition(" ")
        if scheme.lower() == "basic" and self._keys.redeem(secret.strip().encode()):
            return
        message = "Invalid or expired secret" if scheme else "Missing Basic Authorization header"
        challenge = {"Www-Authenticate": f"Basic realm={self._keys.create()}"}
        raise ApiError(401, message, headers=challenge)

    def not_assigned(self, message: str) -> ApiError:
        """Return the error for an identity that the machine does not have."""
        return ApiError(404, message, code="identity_not_found", extra={"error_codes": [404]})

    def select_identity(self, selector: Selector | None) -> tuple[Identity, dict[str, str]]:
        """Return the selected identity, and the fields that name it in the response."""
        if self._ignores_selector:
            return find_identity(self._state.identities, None), {}
        return super().select_identity(selector)

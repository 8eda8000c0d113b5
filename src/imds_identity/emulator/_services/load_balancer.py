"""``/metadata/loadbalancer``: the load balancer of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response
from .request_checks import ApiError, StateEndpoint, check_request

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._state.fault import Fault

PATH = "/metadata/loadbalancer"
INTRODUCED = "2020-10-01"
_NOT_FOUND = (
    "No load balancer metadata is found. Please check if your VM is using any non-basic SKU load "
    "balancer and retry later."
)


class LoadBalancerEndpoint(StateEndpoint):
    """Returns the machine's load balancer."""

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        check_request(request, introduced=INTRODUCED, supported=self._state.versions)
        balancer = self._state.machine.load_balancer
        if not balancer:
            raise ApiError(404, _NOT_FOUND)
        return json_response(200, {"loadbalancer": balancer})

"""``/metadata/loadbalancer``: what stands in front of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._messages import json_response
from .rules import Complaint, json_only_complaint, metadata_error, request_complaint

if TYPE_CHECKING:
    from .._messages import Request, Response
    from .._state.fault import Fault
    from .._state.state import World

PATH = "/metadata/loadbalancer"
INTRODUCED = "2020-10-01"


class LoadBalancerEndpoint:
    """Answers for the load balancer.

    Args:
        world: the shared state.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, request: Request, fault: Fault | None) -> Response:
        """Answer with the machine's load balancer."""
        del fault
        complaint = request_complaint(
            request, introduced=INTRODUCED, supported=self._world.versions
        ) or json_only_complaint(request)
        balancer = self._world.machine.load_balancer
        if complaint is None and not balancer:
            complaint = Complaint(404, "No load balancer metadata is found")
        if complaint is not None:
            return metadata_error(complaint)
        return json_response(200, {"loadbalancer": balancer})

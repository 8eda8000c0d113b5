"""The token endpoint of Azure Arc's agent (HIMDS): a challenge that only privileged users pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._machine.identities import find_identity
from .rules import Complaint, identity_error
from .token import TokenEndpoint

if TYPE_CHECKING:
    from .._machine.identities import Identity, Selector
    from .._messages import Request, Response
    from .._state.key_files import KeyFiles
    from .._state.state import World


class ArcTokenEndpoint(TokenEndpoint):
    """``/metadata/identity/oauth2/token`` as Arc's agent has it.

    Args:
        world: the shared state.
        keys: the challenge's files.
        ignores_selector: as older agents do, answer for the system-assigned identity whatever the
            request names, and echo nothing.
    """

    def __init__(self, world: World, keys: KeyFiles, *, ignores_selector: bool) -> None:
        super().__init__(world)
        self._keys = keys
        self._ignores_selector = ignores_selector

    def refuse(self, request: Request) -> Response | None:
        """The challenge, unless the request carries the secret of an earlier one."""
        scheme, _, secret = (request.header("authorization") or "").partition(" ")
        if scheme.lower() == "basic" and self._keys.use(secret.strip().encode()):
            return None
        missing = not scheme
        words = "Missing Basic Authorization header" if missing else "Invalid or expired secret"
        challenge = {"Www-Authenticate": f"Basic realm={self._keys.create()}"}
        return identity_error(Complaint(401, words, headers=challenge))

    def choose(self, selector: Selector | None) -> tuple[Identity, dict[str, str]]:
        """The identity, and what of the selector the answer echoes."""
        if self._ignores_selector:
            return find_identity(self.world.identities, None), {}
        return super().choose(selector)

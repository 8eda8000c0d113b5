"""Authentication for requests: ``requests.get(url, auth=ManagedIdentityAuth(scope))``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from requests.auth import AuthBase

from ._azure_core.bearer import check_url, claims_of, origin_of
from .credential import ManagedIdentityCredential

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from requests import PreparedRequest, Response

__all__ = ["ManagedIdentityAuth"]


class ManagedIdentityAuth(AuthBase):
    """Adds a managed identity's token to each request, and handles one claims challenge.

    Args:
        scope: the scope of the token, such as ``https://management.azure.com/.default``.
        credential: any azure-core credential, instead of a new `ManagedIdentityCredential`.
        settings: as `ManagedIdentityCredential` takes them, such as ``client_id``.

    Raises:
        TypeError: for both ``credential`` and ``settings``.
        ValueError: as `ManagedIdentityCredential` raises it, and at the first request for an
            invalid scope, or for a URL that would send the token unencrypted to another machine.
    """

    def __init__(
        self, scope: str, *, credential: TokenCredential | None = None, **settings: Any
    ) -> None:
        if credential is not None and settings:
            raise TypeError(f"pass a credential or {', '.join(settings)}, not both")
        self._scope = scope
        self._credential = credential or ManagedIdentityCredential(**settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._scope!r}, credential={self._credential!r})"

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Authorize ``r``; requests calls this."""
        check_url(r.url)
        origin = origin_of(r.url)
        self._authorize(r, None)
        start = _position(r.body)

        def answer_challenge(response: Response, **sending: Any) -> Response:
            claims = claims_of(response.status_code, response.headers)
            # After a redirect the challenge may come from another server, which gets no token.
            if claims is None or origin_of(response.request.url) != origin:
                return response
            again = response.request.copy()
            again.deregister_hook(  # type: ignore[no-untyped-call]
                "response", answer_challenge
            )
            if start is not None:
                again.body.seek(start)  # type: ignore[union-attr]
            self._authorize(again, claims)
            response.content  # noqa: B018 - reads the response, which frees its connection
            response.close()
            second: Response = response.connection.send(again, **sending)
            second.history.append(response)
            second.request = again
            return second

        r.register_hook(  # type: ignore[no-untyped-call]
            "response", answer_challenge
        )
        return r

    def _authorize(self, request: PreparedRequest, claims: str | None) -> None:
        asked = {"claims": claims} if claims else {}
        token = self._credential.get_token(self._scope, **asked)  # type: ignore[arg-type]
        request.headers["Authorization"] = f"Bearer {token.token}"


def _position(body: Any) -> int | None:
    """Return the position of a body that is a file, for sending it again."""
    try:
        return int(body.tell())
    except (AttributeError, OSError):
        return None

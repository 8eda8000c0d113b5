"""What other packages need to know about a token endpoint."""

from __future__ import annotations

from .failure import Reason, Unavailable, sanitize
from .identity import Identity

IMDS = "imds"
ARC = "arc"
# Without user, query, and backslash: URL parsers disagree about those, and Arc's secret goes there.
_ENDPOINT = (
    r"(?i:https?)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:/[A-Za-z0-9_./~-]*)?"
)
_QUERY = r"(?:\?[A-Za-z0-9_.~=&-]*)?"


class Source:
    """A token endpoint.

    Attributes:
        name: the kind of host, such as ``imds``.
        endpoint: its URL.
        variable: the environment variable that named it, if there is one.
        label: the kind of host, for people.
        client_id: the identity of requests without a selector, if it is known.
        is_per_machine: whether tokens and limits are the machine's and not those of one app.
        knows_cae: whether clients that support continuous access evaluation get other tokens.
        forced: whether the caller named this source.
        unused_client_id: the value of AZURE_CLIENT_ID, if requests without a selector do not use
            it.
        allows_query: whether the endpoint may have a query.
    """

    def __init__(
        self,
        name: str,
        endpoint: str,
        variable: str = "",
        *,
        label: str = "",
        client_id: str = "",
        is_per_machine: bool = False,
        knows_cae: bool = False,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.variable = variable
        self.label = label or name
        self.client_id = client_id
        self.is_per_machine = is_per_machine
        self.knows_cae = knows_cae
        self.forced = False
        self.unused_client_id = ""
        self.allows_query = False

    def resolve(self, identity: Identity) -> Identity:
        """Return the identity that a request names: without a selector, the source's own."""
        if identity.selector or not self.client_id:
            return identity
        return Identity("client_id", self.client_id)

    def check(self) -> None:
        """Raise Unavailable if the endpoint is not a plain http(s) URL with a valid port."""
        import re

        match = re.fullmatch(_ENDPOINT + (_QUERY if self.allows_query else ""), self.endpoint)
        if match is None or not 0 < int(match[1] or 80) < 65536:
            raise Unavailable(
                f"{self.variable} results in {sanitize(self.endpoint)!r}, which is not a plain "
                "http or https URL",
                f"Correct or unset {self.variable}.",
                reason=Reason.INVALID_SETTING,
            )

    @property
    def settings_to_unset(self) -> str:
        """The variables to unset if this source cannot be used, separated by spaces."""
        return self.variable

    def __str__(self) -> str:
        return f"{self.label} at {sanitize(self.endpoint)}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {sanitize(self.endpoint)!r})"

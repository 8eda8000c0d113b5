"""Where tokens come from, as far as it tells one token from another."""

from __future__ import annotations

from .failure import Reason, Unavailable, sanitize

IMDS = "imds"
ARC = "arc"
CLOUD_SHELL = "cloud-shell"
LABELS = {
    IMDS: "the Azure VM metadata service (IMDS)",
    ARC: "the Azure Arc agent (HIMDS)",
    "service-fabric": "Service Fabric",
    "app-service": "App Service",
    "azure-ml": "Azure Machine Learning",
    CLOUD_SHELL: "Cloud Shell",
    "workload-identity": "workload identity",
}
# No user, no query, no backslash: parsers of URLs disagree on those, and Arc's secret goes there.
_ENDPOINT = (
    r"(?i:https?)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:/[A-Za-z0-9_./~-]*)?"
)


class Source:
    """A token endpoint and what kind it is.

    Attributes:
        knows_cae: whether its tokens are others for clients that evaluate access continuously.
        name: the kind, one of `LABELS`.
        endpoint: its URL.
        variable: the environment variable that named it, if one did.
        client_id: whose token it gives to those who select no identity, where that is known.
        forced: whether the caller said that it is this kind.
    """

    knows_cae = False

    def __init__(
        self, name: str, endpoint: str, variable: str = "", *, client_id: str = ""
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.variable = variable
        self.client_id = client_id
        self.forced = False

    @property
    def is_per_machine(self) -> bool:
        """Whether its tokens and its limits are the machine's, and not those of one app."""
        return self.name in (IMDS, ARC)

    def check(self) -> None:
        """Refuse an endpoint that is no plain http(s) URL with a port that there is.

        Raises:
            Unavailable: with the variable to mend.
        """
        import re

        match = re.fullmatch(_ENDPOINT, self.endpoint)
        if match is None or not 0 < int(match[1] or 80) < 65536:
            raise Unavailable(
                f"{self.variable} makes {sanitize(self.endpoint)!r}, which is not a plain http or "
                "https URL",
                f"Correct or unset {self.variable}.",
                reason=Reason.INVALID_SETTING,
            )

    def __str__(self) -> str:
        return f"{LABELS[self.name]} at {sanitize(self.endpoint)}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {sanitize(self.endpoint)!r})"

"""What other packages need to know about a token endpoint."""

from __future__ import annotations

from .failure import Reason, Unavailable, sanitize
from .identity import Identity
from .secret import HIDDEN, Secret, sha256

IMDS = "imds"
ARC = "arc"
# Without user, query, and backslash: URL parsers disagree about those, and Arc's secret goes there.
_ENDPOINT = (
    r"(?i:https?)://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:/[A-Za-z0-9_./~-]*)?"
)
_QUERY = r"(?:\?[A-Za-z0-9_.~=&-]*)?"


# The segments of paths of the metadata service and similar endpoints. Others may be secrets.
_KNOWN_SEGMENTS = frozenset(
    ("", "attested", "document", "identity", "info", "instance", "loadbalancer", "metadata", "msi",
     "oauth2", "scheduledevents", "token", "v2.0", "versions")
)  # fmt: skip
_KNOWN_PARAMETERS = frozenset(
    ("api-version", "bypass_cache", "client_id", "clientid", "format", "mi_res_id", "msi_res_id",
     "nonce", "object_id", "principalId", "principal_id", "resource", "xms_cc")
)  # fmt: skip
# Without special characters, which some segments and hosts of other URLs have.
_PLAIN_URL = rf"https?://[A-Za-z0-9.:-]+(?:/(?:{'|'.join(sorted(_KNOWN_SEGMENTS))}))*"
_SHORTEST_SECRET = 8
_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DOMAIN = r"(?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,20}"
_TENANT = rf"(?i)https://[^/]+/({_ID}|{_DOMAIN})/oauth2/"


def shown_url(url: str) -> str:
    """Return ``url`` for messages: scheme, host, port, and the known segments and parameters.

    The rest may be a secret, as in the URL that ``imds-identity serve --protocol imds`` provides.
    """
    import re

    if re.fullmatch(_PLAIN_URL, url):
        return url
    scheme, separator, rest = url.rpartition("://")
    start, mark, query = rest.partition("?")
    host, *segments = start.replace("\\", "/").partition("#")[0].split("/")
    *users, host = host.split("@")
    hidden = hidden_parts(url)
    path = [HIDDEN if each in hidden else each for each in segments]
    pairs = (each.partition("=") for each in query.split("&"))
    shown = [
        f"{HIDDEN if not sign and name in hidden else name}{sign}"
        f"{HIDDEN if value in hidden else value}"
        for name, sign, value in pairs
    ]
    text = "/".join([f"{HIDDEN}@{host}" if users else host, *path])
    return sanitize(f"{scheme}{separator}{text}{mark}{'&'.join(shown)}")


def hidden_parts(url: str) -> list[str]:
    """Return the segments and parameters of ``url`` that may be secrets."""
    import re

    start, _, query = url.rpartition("://")[2].partition("?")
    path = start.replace("\\", "/").partition("#")[0]
    path = path.partition("/metadata/instance/")[0]  # what follows is the name of a value
    tenant = re.match(_TENANT, url)
    known = {tenant[1]} if tenant else set()
    segments = [each for each in path.split("/")[1:] if each.lower() not in _KNOWN_SEGMENTS]
    pairs = (each.partition("=") for each in query.split("&") if each)
    values = [value or name for name, _, value in pairs if name not in _KNOWN_PARAMETERS]
    return [each for each in segments if each not in known] + values


def url_secrets(url: str) -> list[Secret]:
    """Return the segments of ``url`` that may be secrets and are long enough to be recognized."""
    return [Secret(each) for each in hidden_parts(url) if len(each) >= _SHORTEST_SECRET]


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
        self.label: str = label or name
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
                f"{self.variable} results in {self.shown_endpoint!r}, which is not a plain "
                "http or https URL",
                f"Correct or unset {self.variable}.",
                reason=Reason.INVALID_SETTING,
            )

    @property
    def settings_to_unset(self) -> str:
        """The variables to unset if this source cannot be used, separated by spaces."""
        return self.variable

    @property
    def shown_endpoint(self) -> str:
        """The URL for messages, without the parts that may be secrets."""
        return shown_url(self.endpoint)

    @property
    def key_endpoint(self) -> str:
        """The URL for cache keys: parts that may be secrets are replaced by a digest."""
        shown = self.shown_endpoint
        return (
            shown if shown == self.endpoint else f"{shown} ({sha256(self.endpoint.encode())[:16]})"
        )

    def __str__(self) -> str:
        return f"{self.label} at {self.shown_endpoint}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.shown_endpoint!r})"

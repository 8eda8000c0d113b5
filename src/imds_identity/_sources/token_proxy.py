"""The token proxy of an AKS identity binding, which replaces Microsoft Entra ID for a workload.

https://learn.microsoft.com/azure/aks/identity-bindings-concepts
"""

from __future__ import annotations

from .._core.failure import Reason, Unavailable, sanitize
from .._http.local_errors import local_failure
from .._platform.environment import add_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from .._http.messages import ServerTls
    from .._platform.environment import Environment

URL = "AZURE_KUBERNETES_TOKEN_PROXY"
_NAME = "AZURE_KUBERNETES_SNI_NAME"
_CA_FILE = "AZURE_KUBERNETES_CA_FILE"
_CA_DATA = "AZURE_KUBERNETES_CA_DATA"
CA_VARIABLES = (_CA_FILE, _CA_DATA)
VARIABLES = (URL, _NAME, *CA_VARIABLES)
add_variables(*VARIABLES)
_MAX_CA = 1024 * 1024


class TokenProxy:
    """The address of a token proxy, and how to verify its certificate.

    Attributes:
        url: its URL; the path of Microsoft Entra ID's token endpoint follows.
        problem: why these settings cannot be used, or empty.
        to_unset: the variables that cause the problem, separated by spaces.
    """

    def __init__(self, environment: Environment) -> None:
        self.url = environment[URL]
        self._name = environment[_NAME]
        self._ca_file = environment[_CA_FILE]
        self._ca_data = environment[_CA_DATA]
        self._context: ssl.SSLContext | None = None
        self.problem, self.to_unset = self._problem(environment)

    def _problem(self, environment: Environment) -> tuple[str, str]:
        """Return why these settings cannot be used, and the variables that cause it."""
        import re  # not for a cached token of another host

        if not self.url:
            without_url = f"without {URL}, no other variable of an AKS identity binding may be set"
            return without_url, " ".join(name for name in VARIABLES if environment[name])
        if self._ca_file and self._ca_data:
            return f"{_CA_FILE} and {_CA_DATA} are both set: unset one of them", _CA_DATA
        if not re.fullmatch(r"(?i:https)://[^@?#\s]+", self.url):
            url = sanitize(self.url)
            return f"{URL} must be an https URL without user, query and fragment, not {url!r}", URL
        if self._name and not re.fullmatch(r"[A-Za-z0-9._-]+", self._name):
            return f"{_NAME} must be a DNS name, not {sanitize(self._name)!r}", _NAME
        return "", ""

    def server_tls(self) -> ServerTls:
        """Return how to verify the proxy; read the CA file again, because Kubernetes replaces it.

        Raise Unavailable if the certificate authority cannot be used.
        """
        from .._http.messages import ServerTls

        return ServerTls(self._current_context(), self._name)

    def _current_context(self) -> ssl.SSLContext | None:
        """Return a context that trusts only the given authority; None if none is given."""
        if not (self._ca_file or self._ca_data):
            return None
        import ssl  # preloaded with requests

        try:
            pem = self._ca_data or _content(self._ca_file)
            self._context = ssl.create_default_context(cadata=_certificates(pem))
        except (OSError, ValueError) as error:
            # While the file is being replaced, the earlier content is used.
            if self._context is None:
                raise local_failure(error) or self._unusable(error) from None
        return self._context

    def _unusable(self, error: Exception) -> Unavailable:
        variable = _CA_DATA if self._ca_data else _CA_FILE
        where = "" if self._ca_data else f" ({sanitize(self._ca_file)!r})"
        reason = getattr(error, "strerror", None) or sanitize(str(error))
        return Unavailable(
            f"the certificates in {variable}{where} cannot be used: {reason}",
            "It must contain the certificate authority of the token proxy in PEM format.",
            reason=Reason.INVALID_SETTING,
        )


def token_proxy_of(environment: Environment) -> TokenProxy | None:
    """Return the token proxy that the environment describes, if one of its variables is set."""
    return TokenProxy(environment) if any(environment[name] for name in VARIABLES) else None


def _certificates(pem: str) -> str:
    """Return ``pem`` without non-ASCII characters, which comments may contain."""
    certificates = pem.encode("ascii", "ignore").decode()
    if certificates.strip():
        return certificates
    raise ValueError("it is empty")  # the ssl module would trust the system's authorities


def _content(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_MAX_CA)

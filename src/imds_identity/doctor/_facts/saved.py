"""Facts in a file without secrets, so that they can be judged on another machine."""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from ..._core.failure import Failure, failure_from_dict, failure_to_dict, sanitize
from ..._core.identity import Identity
from ..._core.source import shown_url
from ..._platform.environment import Environment
from ..._platform.output_files import write_output
from ..._sources.explain import Explanation
from ..._sources.firmware import Firmware
from ..._sources.registry import create_source, spec_of_rule
from ..._version import __version__
from .facts import Facts
from .network import proxy_server

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ..._sources.host import TokenSource

FORMAT = 1
"""The version of the file. It changes when a file of an earlier version cannot be read."""
_KIND = "imds-identity doctor facts"
_MAX_SIZE = 1 << 20
# The types in annotations that modules import for type checkers only.
_TYPES = {
    "Environment": Environment, "Explanation": Explanation, "Failure": Failure,
    "Firmware": Firmware, "Identity": Identity, "Mapping": Mapping, "TokenSource": object,
}  # fmt: skip
_URLS = (
    "AZURE_AUTHORITY_HOST", "AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT",
)  # fmt: skip
_PLAIN = (
    "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_KUBERNETES_CA_FILE",
    "AZURE_KUBERNETES_SNI_NAME", "AZURE_TENANT_ID", "DEFAULT_IDENTITY_CLIENT_ID",
    "IMDS_IDENTITY_CACHE", "KUBERNETES_SERVICE_HOST", "NO_PROXY", "REQUESTS_CA_BUNDLE", "no_proxy",
)  # fmt: skip
_IS_SET = "set"
_CLAIMS = (
    "aud", "tid", "oid", "appid", "azp", "xms_mirid", "roles", "idtyp", "nbf", "exp", "iss", "sub",
)  # fmt: skip
_COMPUTE = ("azEnvironment", "name", "resourceGroupName", "subscriptionId", "vmScaleSetName")


def save_facts(facts: Facts, path: str | os.PathLike[str]) -> None:
    """Write ``facts`` to a file; raise OSError if that fails."""
    probe = facts.probe
    document = dict(probe.document) if probe.document is not None else None
    compute = (document or {}).get("compute")
    if document is not None:  # the rest, such as user data and tags, may be secret
        document = {name: document[name] for name in ("error", "network") if name in document}
    if document is not None and isinstance(compute, dict):
        document["compute"] = {name: compute[name] for name in _COMPUTE if name in compute}
    probe = probe._replace(
        document=document,
        claims=_plain_claims(probe.claims),
        application_claims=_plain_claims(probe.application_claims),
    )
    known = _encode(facts._replace(probe=probe))
    content = {"kind": _KIND, "format": FORMAT, "version": __version__, "facts": known}
    write_output(str(path), json.dumps(content, indent=2).encode() + b"\n")


def _plain_claims(claims: Mapping[str, object] | None) -> Mapping[str, object] | None:
    return claims and {name: claims[name] for name in _CLAIMS if name in claims}


def load_facts(path: str | os.PathLike[str]) -> Facts:
    """Return the facts in a file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it was not written by `save_facts` of this version.
    """
    name = sanitize(str(path))
    with open(path, "rb") as file:
        content = file.read(_MAX_SIZE + 1)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("kind") != _KIND:
        raise ValueError(f"{name} is not a file that `imds-identity doctor --save` wrote")
    number, version = document.get("format"), document.get("version")
    if number != FORMAT:
        raise ValueError(
            f"{name} has format {sanitize(str(number), 20)}, and this version reads {FORMAT}: use "
            f"imds-identity {sanitize(str(version), 20)}, which wrote it"
        )
    try:
        facts: Facts = _decode(Facts, document.get("facts"))
        return facts._replace(source=_source(facts))
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{name} is damaged: {sanitize(str(error), 100)}") from None


def _source(facts: Facts) -> TokenSource:
    spec = spec_of_rule(facts.explanation.chosen)
    return create_source(spec, facts.environment, is_forced=facts.explanation.forced)


def _encode(value: object) -> object:
    if isinstance(value, Failure):
        return failure_to_dict(value)
    if isinstance(value, Environment):
        return _without_secrets(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        fields = value._asdict()
        return {name: _encode(each) for name, each in fields.items() if name != "source"}
    if isinstance(value, tuple | list):
        return [_encode(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _encode(each) for name, each in value.items()}
    return value


def _without_secrets(environment: Environment) -> dict[str, str]:
    """Return the variables that are set, with values that are not secret."""
    values = {}
    for name in environment.names():
        value = environment[name]
        if name in _URLS:
            values[name] = shown_url(value)
        elif name.lower().endswith("_proxy") and name not in _PLAIN:
            values[name] = f"http://{sanitize(proxy_server(value))}"
        else:
            values[name] = sanitize(value) if name in _PLAIN else _IS_SET
    return values


def _decode(hint: object, value: object) -> Any:
    """Return the value of the type ``hint``; raise ValueError if it has another type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _decode(next(each for each in arguments if each is not type(None)), value)
    if hint in _DECODERS:
        return _DECODERS[hint](value)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], each) for each in value)
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {name: _decode(arguments[1], each) for name, each in value.items()}
    return _decode_class(hint, value)


def _decode_environment(value: Any) -> Environment:
    return Environment(_decode(dict[str, str], value))


def _decode_float(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{sanitize(str(value), 40)} is not a number")
    return float(value)


_DECODERS: dict[Any, Callable[[Any], object]] = {
    Failure: failure_from_dict, Environment: _decode_environment, float: _decode_float,
    object: lambda value: value,
}  # fmt: skip


def _decode_class(hint: Any, value: Any) -> Any:
    if issubclass(hint, enum.Enum):
        return hint(value)
    if hasattr(hint, "_fields") and isinstance(value, dict):
        hints = get_type_hints(hint, localns=_TYPES)
        fields = {name: _decode(hints[name], each) for name, each in value.items()}
        return hint(**({"source": None} if hint is Facts else {}), **fields)
    if type(value) is not hint:
        raise ValueError(f"{sanitize(str(value), 40)} is not {getattr(hint, '__name__', hint)}")
    return value

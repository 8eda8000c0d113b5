"""azure-identity's other keywords and their effect here. Imported only if one is used."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from .._core.failure import sanitize
from .._http.messages import CONNECT_SECONDS, REQUEST_SECONDS
from .._http.retry_options import RetryOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._token_cache.cache import TokenCache


class RetryKeywords(TypedDict, total=False):
    """Keywords for retries and timeouts, as in azure-core's ``RetryPolicy`` and transports.

    Timeouts apply to a whole request, and every wait has one.
    """

    retry_total: int
    retry_connect: int
    retry_read: int
    retry_status: int
    retry_backoff_factor: float
    retry_backoff_max: float
    retry_mode: str
    retry_on_status_codes: Iterable[int]
    timeout: float
    connection_timeout: float
    read_timeout: float


class PipelineKeywords(TypedDict, total=False):
    """Keywords of azure-core's other policies and of its transports."""

    headers: Mapping[str, str]
    user_agent: str
    user_agent_overwrite: bool
    user_agent_use_env: bool
    request_id: str
    auto_request_id: bool
    per_call_policies: object
    per_retry_policies: object
    policies: object
    network_span_namer: object
    tracing_attributes: Mapping[str, str]
    instrumentation_config: Mapping[str, object]
    additional_allowed_query_params: Iterable[str]
    connection_verify: bool | str
    connection_cert: object
    connection_data_block_size: int


class WorkloadKeywords(TypedDict, total=False):
    """Keywords that have an effect in azure-identity with workload identity."""

    authority: str
    _exclude_workload_identity_credential: bool


class UnsupportedKeywords(TypedDict, total=False):
    """Keywords of azure-identity that have no effect here and cause a warning."""

    custom_hook_policy: object
    headers_policy: object
    http_logging_policy: object
    logging_policy: object
    proxies: Mapping[str, str]
    proxy_policy: object
    redirect_policy: object
    retry_policy: object
    retry_policy_class: object
    session: object
    user_agent_policy: object
    _cache: object


class IgnoredKeywords(TypedDict, total=False):
    """Keywords that are ignored: they are for other credentials, or their effect is the default."""

    additionally_allowed_tenants: Iterable[str]
    allow_multitenant_authentication: bool
    base_user_agent: str
    cache_persistence_options: object
    disable_instance_discovery: bool
    enable_support_logging: bool
    logging_body: bool
    permit_redirects: bool
    polling_interval: float
    redirect_max: int
    response_encoding: str
    retry_on_methods: Iterable[str]
    sdk_moniker: str
    session_owner: bool
    tenant_id: str
    use_env_settings: bool
    _enable_imds_probe: bool
    _within_dac: bool


class Keywords(
    RetryKeywords,
    PipelineKeywords,
    WorkloadKeywords,
    UnsupportedKeywords,
    IgnoredKeywords,
    total=False,
):
    """Keywords that `ManagedIdentityCredential` takes like azure-identity's."""

    enable_azure_proxy: bool
    logging_enable: bool
    _token_cache: TokenCache | None  # for tests


_PIPELINE = frozenset(PipelineKeywords.__optional_keys__)
_WORKLOAD = frozenset(WorkloadKeywords.__optional_keys__)
_UNSUPPORTED = frozenset(UnsupportedKeywords.__optional_keys__)
_NAMES = frozenset(Keywords.__optional_keys__)
_CHAIN_KEYWORD = re.compile(r"exclude_[a-z_]+_credential")
_LONGEST = 60.0
_MOST_ATTEMPTS = 1000
_CHALLENGE = 401  # the Azure Arc agent's challenge, which is not a refusal


class ParsedKeywords(NamedTuple):
    """The keywords of one credential that have a value."""

    values: dict[str, object]
    retry_options: RetryOptions

    @property
    def uses_pipeline(self) -> bool:
        """Whether requests need azure-core's policies."""
        return bool(self.values.keys() & _PIPELINE)

    def warn_of_unused(self, source: str, level: int) -> None:
        """Warn about keywords of azure-identity that have no effect here."""
        unsupported = _UNSUPPORTED | _WORKLOAD if source == "workload-identity" else _UNSUPPORTED
        unused = sorted(name for name in unsupported & self.values.keys() if self.values[name])
        if unused:
            warnings.warn(
                f"{', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect: requests "
                "go directly to the host's own service, without proxies and redirects. Headers, "
                "hooks, policies and retry_* keywords are supported",
                UserWarning,
                stacklevel=level + 1,
            )


def parse(options: Mapping[str, object], class_name: str, own: Iterable[str]) -> ParsedKeywords:
    """Return the keywords in ``options`` that are not None.

    Raise TypeError for an unknown keyword, and for headers that are not a mapping; ValueError for a
    retry option that is not a number, or out of range.

    Args:
        options: keyword arguments.
        class_name: the class that received them.
        own: the class's own keywords, to suggest for a misspelled one.
    """
    for name in options:
        if name not in _NAMES and not _CHAIN_KEYWORD.fullmatch(name):
            raise TypeError(
                f"{class_name}() got an unexpected keyword argument {sanitize(name)!r}"
                + _suggestion(name, [*own, *_NAMES])
            )
    values = {name: value for name, value in options.items() if value is not None}
    if not isinstance(values.get("headers", {}), Mapping):
        raise TypeError(f"headers must be a mapping of names to values, not {values['headers']!r}")
    return ParsedKeywords(values, retry_options_of(values))


def retry_options_of(options: Mapping[str, object]) -> RetryOptions:
    """Return the retry options in keywords.

    Raise ValueError for a value that is not a number, or out of range.
    """
    mode = str(getattr(options.get("retry_mode"), "value", options.get("retry_mode", "")))
    if mode.lower() not in ("", "exponential", "fixed"):
        raise ValueError(f"retry_mode must be 'exponential' or 'fixed', not {sanitize(mode)!r}")
    connect = _seconds(options, "connection_timeout")
    return RetryOptions(
        connect_seconds=connect,
        request_seconds=_request_seconds(connect, _seconds(options, "read_timeout")),
        seconds=_number(options, "timeout"),
        attempts=_attempts(options, "retry_total"),
        connect_attempts=_attempts(options, "retry_connect"),
        read_attempts=_attempts(options, "retry_read"),
        status_attempts=_attempts(options, "retry_status"),
        first_pause=_number(options, "retry_backoff_factor", least=0.0),
        longest_pause=_number(options, "retry_backoff_max", least=0.0),
        growth=1.0 if mode.lower() == "fixed" else None,
        statuses=_statuses(options.get("retry_on_status_codes")),
    )


def _seconds(options: Mapping[str, object], name: str) -> float | None:
    seconds = _number(options, name)
    return None if seconds is None else min(seconds, _LONGEST)


def _request_seconds(connect: float | None, read: float | None) -> float | None:
    """Return the seconds for a whole request, if one of the two timeouts was changed."""
    if read is not None:
        return read + (connect or 0.0)
    if connect is not None and connect > CONNECT_SECONDS:
        return connect + REQUEST_SECONDS - CONNECT_SECONDS
    return None


def _attempts(options: Mapping[str, object], name: str) -> int | None:
    """Return the number of requests: one more than retries."""
    retries = _number(options, name, least=0.0)
    return None if retries is None else int(min(retries, _MOST_ATTEMPTS)) + 1


def _number(options: Mapping[str, object], name: str, least: float | None = None) -> float | None:
    """Return a number greater than 0, or at least ``least``."""
    value = options.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan  # type: ignore[arg-type]
    if number > 0 if least is None else number >= least:
        return number
    least_words = "above 0" if least is None else "of 0 or more"
    raise ValueError(f"{name} must be a number {least_words}, not {value!r}")


def _statuses(codes: object) -> frozenset[int] | None:
    if codes is None:
        return None
    try:
        numbers = map(int, codes)  # type: ignore[call-overload]
        return frozenset(code for code in numbers if code >= 400) - {_CHALLENGE}
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"retry_on_status_codes must be a list of HTTP statuses, not {codes!r}"
        ) from None


def _suggestion(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, [known for known in names if known[0] != "_"], 1)
    return f"; did you mean {close[0]!r}?" if close else ""

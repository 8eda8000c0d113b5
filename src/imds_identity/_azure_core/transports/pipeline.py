"""azure-core's policies, applied to each request as the caller configured them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from azure.core.pipeline import AsyncPipeline, Pipeline
from azure.core.pipeline.policies import (
    AsyncHTTPPolicy,
    AsyncRedirectPolicy,
    AsyncRetryPolicy,
    CustomHookPolicy,
    DistributedTracingPolicy,
    HeadersPolicy,
    HTTPPolicy,
    ProxyPolicy,
    RedirectPolicy,
    RequestIdPolicy,
    RetryPolicy,
    UserAgentPolicy,
)

from ..._http.transport_errors import USER_AGENT
from .body import ResponseBody, read_body, read_body_async

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.rest import HttpRequest

    from .isolated import AnyTransport

# This package retries by itself, and uses neither redirects nor proxies.
_REPLACED = (AsyncRedirectPolicy, AsyncRetryPolicy, ProxyPolicy, RedirectPolicy, RetryPolicy)
_TRANSPORT_KEYWORDS = ("connection_verify", "connection_cert", "connection_data_block_size")
_SEND_OPTION = "imds_identity_send"


class Policies:
    """The policies of a credential, in the order in which a request passes them.

    There is no retry policy: each attempt is a request, and per-call policies run for each.

    Args:
        hooks: ``raw_request_hook`` and ``raw_response_hook``.
        options: keywords of azure-core's policies and transports.
    """

    def __init__(self, hooks: Mapping[str, object], options: Mapping[str, object]) -> None:
        wanted = (
            _as_list(options["policies"])
            if "policies" in options
            else _default_policies(hooks, options)
        )
        self._list = [policy for policy in wanted if not isinstance(policy, _REPLACED)]
        self.transport_options = {
            name: options[name] for name in _TRANSPORT_KEYWORDS if name in options
        }
        self._sync_pipeline: object = None
        self._awaited_pipeline: object = None

    @property
    def need_loop(self) -> bool:
        """Whether one of the policies is async."""
        return any(map(_is_async_policy, self._list))

    def check(self, *, on_loop: bool) -> None:
        """Refuse policies that cannot run on an event loop, or that need one.

        Raise TypeError for a policy of the other kind.
        """
        for policy in self._list:
            if not on_loop and _is_async_policy(policy):
                raise TypeError(
                    f"{type(policy).__name__} is an async policy: it needs "
                    "imds_identity.aio.ManagedIdentityCredential, and no sync transport"
                )
            if on_loop and isinstance(policy, HTTPPolicy):
                raise TypeError(
                    f"{type(policy).__name__} is a sync policy, and requests are awaited here: "
                    "use an AsyncHTTPPolicy or a SansIOHTTPPolicy"
                )

    def run(
        self, request: HttpRequest, transport: AnyTransport, body: ResponseBody, **options: object
    ) -> object:
        """Return the response to ``request``; its body is in ``body``."""
        option = {_SEND_OPTION: (transport, body)}
        return self._pipeline().run(request, **options, **option).http_response

    async def run_async(
        self, request: HttpRequest, transport: AnyTransport, body: ResponseBody, **options: object
    ) -> object:
        """Like `run`, for an async transport."""
        option = {_SEND_OPTION: (transport, body)}
        return (await self._async_pipeline().run(request, **options, **option)).http_response

    # Not one per request: a policy has a reference to the next one, and threads share policies.
    # Not a cached_property: until Python 3.12 it takes a lock, which a fork could leave locked.
    def _pipeline(self) -> Any:
        if self._sync_pipeline is None:
            make: Any = Pipeline
            self._sync_pipeline = make(_Transport(), self._list)
        return self._sync_pipeline

    def _async_pipeline(self) -> Any:
        if self._awaited_pipeline is None:
            make: Any = AsyncPipeline
            self._awaited_pipeline = make(_AsyncTransport(), self._list)
        return self._awaited_pipeline


class _Transport:
    """The last step of every pipeline: sends the request and reads the whole response."""

    def send(self, request: Any, **options: Any) -> Any:
        transport, body = options.pop(_SEND_OPTION)
        body.restart()
        response = transport.send(request, **options)
        read_body(response, body)
        return response


class _AsyncTransport:
    """The same for async transports."""

    async def send(self, request: object, **options: Any) -> Any:
        transport, body = options.pop(_SEND_OPTION)
        body.restart()
        response = await transport.send(request, **options)
        await read_body_async(response, body)
        return response


def _default_policies(hooks: Mapping[str, object], options: Mapping[str, Any]) -> list[object]:
    policies: list[object] = []
    if options.keys() & {"request_id", "auto_request_id"}:
        policies.append(RequestIdPolicy(**options))
    if "headers" in options:
        policies.append(HeadersPolicy(dict(options["headers"])))
    if options.keys() & {"user_agent", "user_agent_overwrite", "user_agent_use_env"}:
        policies.append(_user_agent(**options))
    return [
        *policies,
        *_as_list(options.get("per_call_policies")),
        *_as_list(options.get("per_retry_policies")),
        CustomHookPolicy(**hooks),
        DistributedTracingPolicy(**options),
    ]


def _user_agent(
    *,
    user_agent: str = "",
    user_agent_overwrite: bool = False,
    user_agent_use_env: bool = True,
    **_: object,
) -> UserAgentPolicy:
    value = user_agent if user_agent_overwrite else f"{user_agent} {USER_AGENT}"
    return UserAgentPolicy(
        value.strip() or USER_AGENT,
        user_agent_overwrite=True,  # the request already has this package's own
        user_agent_use_env=user_agent_use_env,
    )


def _as_list(policies: object) -> list[object]:
    """Return a list of policies from a single policy or a sequence."""
    if policies is None:
        return []
    return list(policies) if isinstance(policies, list | tuple) else [policies]


def _is_async_policy(policy: object) -> bool:
    called = (getattr(policy, name, None) for name in ("on_request", "on_response"))
    return isinstance(policy, AsyncHTTPPolicy) or any(map(inspect.iscoroutinefunction, called))

"""azure-core's policies around each request, as the caller wants them."""

from __future__ import annotations

import inspect
from functools import cached_property
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

# What they do is done by us, or never.
_NOT_OURS = (AsyncRedirectPolicy, AsyncRetryPolicy, ProxyPolicy, RedirectPolicy, RetryPolicy)
_OF_TRANSPORTS = ("connection_verify", "connection_cert", "connection_data_block_size")
_HOW = "imds_identity_how"


class Policies:
    """What every request of a credential goes through, from the outermost to the transport.

    Each attempt is a request of its own here: there is no retry policy, and policies that are
    called once per call are called for each attempt.

    Args:
        hooks: ``raw_request_hook`` and ``raw_response_hook``.
        options: keywords of azure-core's policies and transports, as `options.Keywords` has them.
    """

    def __init__(self, hooks: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        wanted = _as_list(options["policies"]) if "policies" in options else _all(hooks, options)
        self._list = [policy for policy in wanted if not isinstance(policy, _NOT_OURS)]
        self.of_transport = {name: options[name] for name in _OF_TRANSPORTS if name in options}

    @property
    def need_loop(self) -> bool:
        """Whether one of them is to be awaited."""
        return any(map(_is_async_policy, self._list))

    def check(self, *, on_loop: bool) -> None:
        """Refuse what cannot be called where requests are sent.

        Args:
            on_loop: whether they are awaited there.

        Raises:
            TypeError: for a policy of the other kind.
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
                    "make it an AsyncHTTPPolicy or a SansIOHTTPPolicy"
                )

    def run(self, request: HttpRequest, transport: Any, body: ResponseBody, **options: Any) -> Any:
        """The answer to ``request``, its body in ``body``."""
        how = {_HOW: (transport, body)}
        return self._pipeline.run(request, **options, **how).http_response

    async def run_async(
        self, request: HttpRequest, transport: Any, body: ResponseBody, **options: Any
    ) -> Any:
        """Like `run`, for a transport that is awaited."""
        how = {_HOW: (transport, body)}
        return (await self._async_pipeline.run(request, **options, **how)).http_response

    # One of each and not one a request: a policy knows its next one, and may be shared by threads.
    @cached_property
    def _pipeline(self) -> Any:
        pipeline: Any = Pipeline
        return pipeline(_Transport(), self._list)

    @cached_property
    def _async_pipeline(self) -> Any:
        pipeline: Any = AsyncPipeline
        return pipeline(_AsyncTransport(), self._list)


class _Transport:
    """The end of every pipeline: sends as is said with the request, and reads the answer whole."""

    def send(self, request: Any, **options: Any) -> Any:
        transport, body = options.pop(_HOW)
        body.sending()
        response = transport.send(request, **options)
        read_body(response, body)
        return response


class _AsyncTransport:
    """The same for transports that are awaited."""

    async def send(self, request: Any, **options: Any) -> Any:
        transport, body = options.pop(_HOW)
        body.sending()
        response = await transport.send(request, **options)
        await read_body_async(response, body)
        return response


def _all(hooks: Mapping[str, Any], options: Mapping[str, Any]) -> list[Any]:
    policies: list[Any] = []
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
    **_: Any,
) -> UserAgentPolicy:
    said = user_agent if user_agent_overwrite else f"{user_agent} {USER_AGENT}"
    return UserAgentPolicy(
        said.strip() or USER_AGENT,
        user_agent_overwrite=True,  # ours is in the request already
        user_agent_use_env=user_agent_use_env,
    )


def _as_list(policies: Any) -> list[Any]:
    """One policy, or any number of them."""
    if policies is None:
        return []
    return list(policies) if isinstance(policies, list | tuple) else [policies]


def _is_async_policy(policy: Any) -> bool:
    called = (getattr(policy, name, None) for name in ("on_request", "on_response"))
    return isinstance(policy, AsyncHTTPPolicy) or any(map(inspect.iscoroutinefunction, called))

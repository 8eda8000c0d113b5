"""The client of the metadata service."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

from .._http.messages import REQUEST_SECONDS
from .._platform.fork import fork_safe
from ._events.events import approval, events_from
from ._models.instance import instance_from
from ._models.load_balancer import LoadBalancer, public_ips
from ._models.parsing import checked_nonce, element_at
from ._requests import exchanges
from ._requests.connection import LONGEST_EXCHANGE, Connection, OneAtATime, wait_for
from ._requests.versions import checked
from .errors import MetadataError, NotOfferedError, WrongNonceError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

    from .._http.exchange import Steps
    from .._platform.clock import Clock
    from ._attestation.document import AttestedDocument
    from ._attestation.trust import Given
    from ._events.events import EventsDocument
    from ._events.watch import Watcher
    from ._models.compute import Compute, StorageProfile
    from ._models.instance import Instance, Network
    from .clouds import Cloud

_NOT_OFFERED = (400, 404, 405)
_TRIES_FOR_A_FRESH_NONCE = 3


class MetadataClient:
    """What the Instance Metadata Service says of this machine.

    The instance document is fetched once and kept; its parts come out of it. Any thread may use a
    client. https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service

    Args:
        endpoint: another service than this machine's, such as ``http://127.0.0.1:8080``.
        api_version: the version to ask by, come what may; by default the newest that the library
            and the service both know.

    Raises:
        ValueError: if ``api_version`` is none.
    """

    def __init__(self, *, endpoint: str | None = None, api_version: str | None = None) -> None:
        pinned = None if api_version is None else checked(api_version)
        self._given_endpoint = endpoint
        self._connection = Connection(endpoint)
        base, host = self._connection.base, self._connection.host
        self._service = exchanges.Service(base, random.random, pinned, host)
        self._agreed: dict[str, str] = {}
        self._instance: Instance | None = None
        self._one_at_a_time = OneAtATime()
        self._has_asked_for_events = False

    def __reduce__(self) -> Any:
        settings = {"endpoint": self._given_endpoint, "api_version": self._service.pinned}
        return partial(type(self), **settings), ()

    @property
    def clock(self) -> Clock:
        """The time that the client goes by."""
        return self._connection.clock

    def instance(self, *, refresh: bool = False) -> Instance:
        """The whole instance document.

        Args:
            refresh: whether to ask the service again.

        Raises:
            MetadataError: if it cannot be had.
        """
        known = self._instance
        if known is not None and not refresh:
            return known

        def newer() -> Instance:
            if self._instance is None or self._instance is known:
                document = self._ask("instance", exchanges.instance)
                self._instance = self._connection.read(instance_from, document)
            return self._instance

        return self._one_at_a_time.do(newer)

    def compute(self, *, refresh: bool = False) -> Compute:
        """What the machine is, and where it runs; as `instance`."""
        return self.instance(refresh=refresh).compute

    def network(self, *, refresh: bool = False) -> Network:
        """The machine's network interfaces; as `instance`."""
        return self.instance(refresh=refresh).network

    def storage_profile(self, *, refresh: bool = False) -> StorageProfile:
        """The machine's disks and image; as `instance`."""
        return self.compute(refresh=refresh).storage_profile

    def tags(self, *, refresh: bool = False) -> dict[str, str]:
        """The machine's tags by name; as `instance`."""
        return self.compute(refresh=refresh).tags

    def get(self, path: str, *, refresh: bool = False) -> Any:
        """One element of the instance document.

        Args:
            path: such as ``network/interface/0/macAddress``; names are case-sensitive.
            refresh: whether to ask the service again.

        Returns:
            The text of a leaf; a branch as ``json.loads`` gives it.

        Raises:
            MetadataNotFoundError: if there is no such element.
            MetadataError: if the document cannot be had.
        """
        return element_at(self.instance(refresh=refresh).raw, path)

    def versions(self) -> tuple[str, ...]:
        """The api-versions that the service knows."""
        return self._connection.run(exchanges.versions(self._service))

    def load_balancer(self) -> LoadBalancer:
        """What stands in front of the machine; empty, and so false, where nothing does.

        Raises:
            NotOfferedError: on Azure Stack Hub and Azure Arc.
            MetadataError: if it cannot be had.
        """
        balancer: LoadBalancer = self._ask("loadbalancer", exchanges.load_balancer)
        if not balancer:
            self._refuse_stack_hub("The load balancer's metadata")
        return balancer

    def public_ips(self) -> tuple[str, ...]:
        """The machine's public addresses, of Basic and of Standard SKU."""
        try:
            balancer = self.load_balancer()
        except NotOfferedError:
            balancer = LoadBalancer()
        return public_ips(self.instance(), balancer)

    def identity_info(self) -> str:
        """The id of the Microsoft Entra tenant of the machine's identities."""
        tenant: str = self._ask("identity", exchanges.identity_info)
        return tenant

    def attested_document(
        self,
        *,
        nonce: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        intermediates: Iterable[Given] = (),
        cloud: Cloud | str | None = None,
        offline: bool = False,
    ) -> AttestedDocument:
        """Fetch a proof of which machine this is, and verify it.

        Args:
            nonce: up to 32 letters and digits that it shall repeat; ten random digits by default.
            ca_file: as for `verify_attested_document`, like what follows.
            intermediates: likewise.
            cloud: likewise.
            offline: likewise.

        Raises:
            AttestedDocumentError: if it does not prove anything.
            MetadataError: if it cannot be had.
            ValueError: if an argument is wrong.
        """
        with fork_safe():
            from ._attestation.document import verify_attested_document

        wanted = checked_nonce(nonce)
        given = tuple(intermediates)
        for left in reversed(range(_TRIES_FOR_A_FRESH_NONCE)):
            signature = self.attested_signature(nonce=wanted)
            try:
                return verify_attested_document(
                    signature,
                    nonce=wanted,
                    ca_file=ca_file,
                    intermediates=given,
                    cloud=cloud,
                    offline=offline,
                )
            except WrongNonceError:
                # The service may answer from a cache of its own, with somebody's older nonce.
                if not left:
                    raise
                self.clock.sleep(1.0)
        raise AssertionError("unreachable")

    def attested_signature(self, *, nonce: str | None = None) -> str:
        """An attested document as the service gives it, for another to verify.

        Args:
            nonce: what that other wants it to repeat.

        Returns:
            The ``signature`` of the answer, in base64 and not verified.
        """
        wanted = None if nonce is None else checked_nonce(nonce)
        signature: str = self._ask(
            "attested", lambda service, version: exchanges.attested(service, wanted, version)
        )
        return signature

    def scheduled_events(self, *, retry: bool = True) -> EventsDocument:
        """What awaits this machine and those that it shares a scale set or availability set with.

        The first request ever from a machine may take two minutes, as it enables the service.

        Args:
            retry: whether to ask again until there is an answer; False is for who asks every
                second anyway.

        Raises:
            NotOfferedError: on Azure Stack Hub and Azure Arc.
            MetadataError: if they cannot be had, which does not mean that there are none.
        """
        first = not self._has_asked_for_events
        longer = exchanges.FIRST_EVENTS_SECONDS if first else 0.0
        exchange = partial(exchanges.events, first=first, retry=retry)
        document = self._ask("scheduledevents", exchange, longer)
        self._has_asked_for_events = True
        return self._connection.read(events_from, document)

    def watch(
        self, *, every_machine: bool = False, state_file: str | os.PathLike[str] | None = None
    ) -> Watcher:
        """Hear of scheduled events as they come, change by change.

        Args:
            every_machine: whether to hear of the neighbours' events, too.
            state_file: where to keep what was told, to go on after a restart.

        Raises:
            OSError: if the file cannot be read or written.
            ValueError: if it holds something else.
        """
        with fork_safe():
            from ._events.watch import Watcher

        return Watcher(self, every_machine=every_machine, state_file=state_file)

    def start(self, *event_ids: str) -> None:
        """Approve events, so that they start at once and not when their notice is over.

        Args:
            event_ids: their ids.

        Raises:
            MetadataRefusedError: if one of them is not there any more.
        """
        body = approval(event_ids)
        self._ask("scheduledevents", partial(exchanges.start_events, body=body))

    def detect(self) -> bool:
        """Whether Azure's service answers, at once: see `imds_identity.metadata.detect`."""
        with fork_safe():
            from ._requests.presence import detect

        return detect(endpoint=self._given_endpoint)

    def require(self, seconds: float = 120.0) -> Instance:
        """Wait for a service that is slow to start, as it can be while a machine boots.

        Args:
            seconds: for how long.

        Raises:
            MetadataError: if it has not answered by then, or what it answers will not change.
        """

        def ask(left: float) -> Instance:
            exchange = partial(exchanges.instance_once, seconds=min(left, REQUEST_SECONDS))
            return self._connection.read(instance_from, self._ask("instance", exchange))

        self._instance = wait_for(ask, seconds, self.clock)
        return self._instance

    def _ask(
        self, category: str, exchange: Callable[..., Steps[exchanges.Answer]], longer: float = 0.0
    ) -> Any:
        """What ``category`` says, by the version agreed on before; it may take ``longer``."""
        if self._connection.is_arc and category != "instance":
            raise NotOfferedError(f"{category} is not available on Azure Arc.")
        try:
            steps = exchange(self._service, self._agreed.get(category))
            answer = self._connection.run(steps, LONGEST_EXCHANGE + longer)
        except MetadataError as error:
            if category != "instance" and error.status_code in _NOT_OFFERED:
                self._refuse_stack_hub(category)
            raise
        self._agreed[category] = answer.version
        return answer.document

    def _refuse_stack_hub(self, what: str) -> None:
        if self.compute().is_stack_hub:
            raise NotOfferedError(f"{what} is not available on Azure Stack Hub.")

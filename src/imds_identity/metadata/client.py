"""The client for instance metadata, attested documents, and scheduled events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .._http.messages import REQUEST_SECONDS
from ._events.events import events_from_json, start_request
from ._models.instance import instance_from_json, is_partial
from ._models.load_balancer import LoadBalancer, public_ips
from ._models.parsing import element_at, validated_nonce
from ._requests import exchanges
from ._requests.connection import MetadataConnection, poll_until_available
from ._requests.fetcher import Fetcher
from ._requests.instance_cache import InstanceCache
from ._requests.versions import validated_version
from .errors import MetadataNotFoundError, UnsupportedOnHostError, WrongNonceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from .._platform.clock import Clock
    from ._attestation.document import AttestedDocument
    from ._events.events import EventsDocument
    from ._events.watcher import Watcher
    from ._models.compute import Compute
    from ._models.instance import Instance, Network
    from ._models.storage import StorageProfile
    from ._requests.options import (
        InstanceOptions,
        RequestOptions,
        VerificationOptions,
        WatchOptions,
    )

_NONCE_ATTEMPTS = 3


class MetadataClient:
    """A client for the Instance Metadata Service. It is thread-safe.

    The instance document is fetched once and cached; its parts are read from it. Each call that
    sends requests accepts the keywords of `RequestOptions`.
    https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service

    Args:
        endpoint: its URL, for example ``http://127.0.0.1:8080``; this machine's by default.
        api_version: the API version of every request; by default the newest that both sides know.

    Raises:
        ValueError: if ``endpoint`` or ``api_version`` is malformed.
    """

    def __init__(self, *, endpoint: str | None = None, api_version: str | None = None) -> None:
        pinned = None if api_version is None else validated_version(api_version)
        self._given_endpoint = endpoint
        self._connection = MetadataConnection(endpoint)
        self._fetcher = Fetcher(self._connection, pinned, lambda: self.compute().is_stack_hub)
        self._cache = InstanceCache(self._connection)
        self._events_enabled = False

    def __reduce__(self) -> tuple[object, ...]:
        pinned = self._fetcher.endpoint.pinned_version
        settings = {"endpoint": self._given_endpoint, "api_version": pinned}
        return partial(type(self), **settings), ()

    @property
    def clock(self) -> Clock:
        """The clock of the client."""
        return self._connection.clock

    def instance(
        self,
        *,
        refresh: bool = False,
        max_age: float | None = None,
        **options: Unpack[RequestOptions],
    ) -> Instance:
        """Return the instance document, which is cached after the first call.

        If the service leaves out a part, it is requested again; a partial document is not cached.
        A call with ``params`` always fetches the document, and does not cache it.

        Args:
            refresh: whether to fetch it again.
            max_age: the maximum age of a cached document in seconds; any age by default.
            options: see `RequestOptions`.

        Raises:
            MetadataError: if it cannot be fetched.
            ValueError: if ``max_age`` is negative, or an option is invalid.
        """
        fetch = partial(self._fetch_instance, **options)
        if options.get("params"):
            return fetch()
        wait = options.get("timeout") is None
        return self._cache.get(fetch, refresh=refresh, max_age=max_age, wait=wait)

    def clear(self) -> None:
        """Forget the cached instance document and the negotiated API versions."""
        self._cache.clear()
        self._fetcher.versions.clear()

    def compute(self, **options: Unpack[InstanceOptions]) -> Compute:
        """Return the properties and the location of the machine; see `instance`."""
        return self.instance(**options).compute

    def network(self, **options: Unpack[InstanceOptions]) -> Network:
        """Return the network interfaces of the machine; see `instance`."""
        return self.instance(**options).network

    def storage_profile(self, **options: Unpack[InstanceOptions]) -> StorageProfile:
        """Return the disks and the image of the machine; see `instance`."""
        return self.compute(**options).storage_profile

    def tags(self, **options: Unpack[InstanceOptions]) -> dict[str, str]:
        """Return the tags of the machine by name; see `instance`."""
        return self.compute(**options).tags

    def get(self, path: str, **options: Unpack[InstanceOptions]) -> Any:
        """Return one element of the instance document.

        Args:
            path: for example ``network/interface/0/macAddress``; names are case-sensitive.
            options: as for `instance`.

        Returns:
            A string for a leaf, else the JSON as ``json.loads`` returns it.

        Raises:
            MetadataNotFoundError: if there is no such element.
            MetadataError: if the document cannot be fetched.
        """
        instance = self.instance(**options)
        try:
            return element_at(instance.raw, path)
        except MetadataNotFoundError:
            if is_partial(instance.raw):
                self._cache.raise_partial(path)
            raise

    def versions(self, **options: Unpack[RequestOptions]) -> tuple[str, ...]:
        """Return the API versions that the service supports."""
        return self._fetcher.run(exchanges.versions, **options)

    def load_balancer(self, **options: Unpack[RequestOptions]) -> LoadBalancer:
        """Return the load balancer of the machine; empty and therefore falsy if there is none.

        Raises:
            UnsupportedOnHostError: on Azure Stack Hub and Azure Arc.
            MetadataError: if it cannot be fetched.
        """
        balancer = self._fetcher.fetch("loadbalancer", exchanges.load_balancer, **options)
        if not balancer:
            self._fetcher.raise_on_stack_hub("loadbalancer")
        return balancer

    def public_ips(self, **options: Unpack[RequestOptions]) -> tuple[str, ...]:
        """Return the public IP addresses of the machine, both Basic and Standard SKU."""
        try:
            balancer = self.load_balancer(**options)
        except UnsupportedOnHostError:
            balancer = LoadBalancer()
        return public_ips(self.instance(**options), balancer)

    def identity_info(self, **options: Unpack[RequestOptions]) -> str:
        """Return the Microsoft Entra tenant ID of the machine's identities.

        Raises:
            UnsupportedOnHostError: on Azure Stack Hub.
            MetadataError: if it cannot be fetched.
        """
        return self._fetcher.fetch("identity", exchanges.identity_info, **options)

    def attested_document(
        self,
        *,
        nonce: str | None = None,
        timeout: float | None = None,
        retry: bool = True,
        params: Mapping[str, str] | None = None,
        **options: Unpack[VerificationOptions],
    ) -> AttestedDocument:
        """Fetch a signed proof of the machine's identity, verify it, and return it.

        Args:
            nonce: up to 64 printable ASCII characters, which the service may restrict; ten random
                digits by default.
            timeout: see `RequestOptions`.
            retry: see `RequestOptions`.
            params: see `RequestOptions`.
            options: as for `verify_attested_document`.

        Raises:
            AttestedDocumentError: if the verification fails.
            UnsupportedOnHostError: on Azure Stack Hub and Azure Arc.
            MetadataError: if the document cannot be fetched.
            ValueError: if an argument is invalid.
        """
        from ._attestation.document import verify_attested_document

        nonce = validated_nonce(nonce)
        options["roots"] = tuple(options.get("roots", ()))
        options["intermediates"] = tuple(options.get("intermediates", ()))
        for attempts_left in reversed(range(_NONCE_ATTEMPTS)):
            signature = self.attested_signature(
                nonce=nonce, timeout=timeout, retry=retry, params=params
            )
            try:
                return verify_attested_document(signature, nonce=nonce, **options)
            except WrongNonceError:
                # The service may return a cached document with the nonce of another request.
                if not attempts_left:
                    raise
                self.clock.sleep(1.0)
        raise AssertionError("unreachable")

    def attested_signature(
        self, *, nonce: str | None = None, **options: Unpack[RequestOptions]
    ) -> str:
        """Fetch an attested document for another party to verify.

        Args:
            nonce: the nonce of the verifying party.
            options: see `RequestOptions`.

        Returns:
            The ``signature`` of the response: base64, not verified.

        Raises:
            UnsupportedOnHostError: on Azure Stack Hub and Azure Arc.
            MetadataError: if it cannot be fetched.
            ValueError: if the nonce is invalid.
        """
        nonce = None if nonce is None else validated_nonce(nonce)
        exchange = partial(exchanges.attested, nonce=nonce)
        return self._fetcher.fetch("attested", exchange, **options)

    def scheduled_events(self, **options: Unpack[RequestOptions]) -> EventsDocument:
        """Return the scheduled events of this machine and its scale set or availability set.

        The first request of a machine may take two minutes, because it enables the service.

        Args:
            options: see `RequestOptions`; pass ``retry=False`` when polling.

        Raises:
            UnsupportedOnHostError: on Azure Stack Hub and Azure Arc.
            MetadataError: if they cannot be fetched, which does not mean that there are no events.
        """
        first = not self._events_enabled
        more_seconds = exchanges.FIRST_EVENTS_SECONDS if first else 0.0
        exchange = partial(exchanges.events, first=first)
        document = self._fetcher.fetch("scheduledevents", exchange, more_seconds, **options)
        self._events_enabled = True
        return self._connection.convert(events_from_json, document)

    def watch(self, **options: Unpack[WatchOptions]) -> Watcher:
        """Return an iterator that waits for scheduled events and returns each change.

        Args:
            options: the keywords of `Watcher`.

        Raises:
            OSError: if the state file cannot be read or written.
            ValueError: if it is not a state file.
        """
        from ._events.watcher import Watcher

        return Watcher(self, **options)

    def start(self, *event_ids: str, **options: Unpack[RequestOptions]) -> None:
        """Approve scheduled events, so that they start before their notice ends.

        Args:
            event_ids: the IDs of the events.
            options: see `RequestOptions`.

        Raises:
            MetadataRefusedError: if an event no longer exists.
            MetadataError: if the request fails.
            ValueError: if there are no IDs.
        """
        body = start_request(event_ids)
        exchange = partial(exchanges.start_events, body=body)
        self._fetcher.fetch("scheduledevents", exchange, **options)

    def detect(self, seconds: float | None = None) -> bool:
        """Return whether this is an Azure VM: see `imds_identity.metadata.detect`.

        Args:
            seconds: the timeout.
        """
        from ._requests.detection import detect

        return detect(endpoint=self._given_endpoint, seconds=seconds)

    def require(self, seconds: float = 120.0) -> Instance:
        """Wait until the service has started, and return the instance document.

        Args:
            seconds: the timeout.

        Raises:
            MetadataError: if the timeout elapses, or the service returns a permanent error.
        """

        def attempt(seconds_left: float) -> Instance:
            timeout = min(seconds_left, REQUEST_SECONDS)
            instance = self._fetch_instance(timeout=timeout, retry=False)
            return self._cache.keep_with_compute(instance)

        return poll_until_available(attempt, seconds, self.clock)

    def _fetch_instance(self, **options: Unpack[RequestOptions]) -> Instance:
        document = self._fetcher.fetch("instance", exchanges.instance, **options)
        return self._connection.convert(instance_from_json, document)

"""The instance document that a client keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..._platform.locks import ForkAwareLock
from .._models.instance import is_partial, partial_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._models.instance import Instance
    from .connection import MetadataConnection


class _Cached(NamedTuple):
    instance: Instance
    fetched_at: float


class InstanceCache:
    """Fetches the instance document once for all threads, and never keeps a partial one."""

    def __init__(self, connection: MetadataConnection) -> None:
        self._connection = connection
        self._cached: _Cached | None = None
        self._lock = ForkAwareLock()

    def get(
        self,
        fetch: Callable[[], Instance],
        *,
        refresh: bool,
        max_age: float | None,
        wait: bool = True,
    ) -> Instance:
        """Return the document: from the cache, or else from ``fetch``.

        Without ``wait``, it does not wait for the fetch of another thread.
        """
        if max_age is not None and not max_age >= 0:
            raise ValueError(f"max_age takes a number of seconds, not {max_age!r}")
        known = self._cached
        if known is not None and not refresh and not self._is_older(known, max_age):
            return known.instance

        if not wait:
            return self.keep(fetch())

        def update() -> Instance:
            cached = self._cached
            if cached is not None and cached is not known:  # another thread has fetched it
                return cached.instance
            return self.keep(fetch())

        return self._lock.run(update)

    def _is_older(self, cached: _Cached, max_age: float | None) -> bool:
        return max_age is not None and self._connection.clock.now() - cached.fetched_at > max_age

    def keep(self, instance: Instance) -> Instance:
        """Cache ``instance``, unless the service left out a part of it."""
        if not is_partial(instance.raw):
            self._cached = _Cached(instance, self._connection.clock.now())
        return instance

    def keep_with_compute(self, instance: Instance) -> Instance:
        """Cache ``instance``; raise MetadataError if its ``compute`` is missing."""
        if not self.keep(instance).compute:
            self.raise_partial("compute")
        return instance

    def raise_partial(self, missing: str) -> None:
        """Raise MetadataError for a document without the part ``missing``."""

        def fail(_: object) -> None:
            raise partial_document(missing)

        self._connection.convert(fail, None)

    def clear(self) -> None:
        """Remove the document from the cache."""
        self._cached = None

"""Files that always hold a current token, for programs that read a token from a file."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .._core.failure import Failure, sanitize
from .._core.scope import resource_of
from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import is_variable_name
from .._platform.output_files import write_output
from .._platform.threads import join_all
from .arguments import print_failure, token_client
from .memory_files import IS_SUPPORTED, MemoryFile
from .output import failure_lines, print_notice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .._core.token import Token
    from .._platform.clock import Clock
    from .._token_cache.client import TokenClient
    from .._token_cache.entry import CacheEntry

_POLL_SECONDS = 20.0
_SHORTEST_POLL = 0.2
_RETRY_SECONDS = 5.0
_FETCH_END_SECONDS = 5.0
_MODE = 0o600


class Target(NamedTuple):
    """Where a token is needed.

    Attributes:
        name: the environment variable, or the path, for messages.
        resource: the token's resource.
        write: replaces the content of the file, and may return a function that removes it.
        content: the content of the file with a token.
    """

    name: str
    resource: str
    write: Callable[[bytes], Callable[[], None] | None]
    content: Callable[[str], str] = str


class TokenFile:
    """A file that holds a current token until it is removed.

    Args:
        target: where the token is needed.
        client: returns tokens and refreshes them before they expire.
        clock: the time.
    """

    def __init__(self, target: Target, client: TokenClient, clock: Clock = SYSTEM_CLOCK) -> None:
        self._target = target
        self._client = client
        self._clock = clock
        self._entry: CacheEntry = client.entry(target.resource)
        self._current: Token | None = None
        self._written: Token | None = None
        self._lock = threading.Lock()
        self._remove: Callable[[], None] | None = None
        self._is_removed = False
        self._has_failed = False

    @property
    def name(self) -> str:
        """The environment variable, or the path."""
        return self._target.name

    def preload(self) -> None:
        """Import what a refresh needs. If that fails, the refresh tries it again and reports it."""
        with suppress(Exception):
            self._client.preload()

    def update(self) -> None:
        """Write the current token, unless the file holds it.

        Raises:
            Failure: if no token is available.
            OSError: if the file cannot be written.
        """
        self.fetch()
        self.write()

    def fetch(self) -> None:
        """Get the current token for `write`; raise Failure if none is available."""
        self._current = self._client.token(self._entry)

    def write(self) -> None:
        """Write the token of `fetch`, unless the file holds it; raise OSError if that fails."""
        token = self._current
        with self._lock:
            if token is None or self._is_removed:
                return
            if self._written is None or self._written.value != token.value:
                self._remove = self._target.write(self._target.content(token.value).encode())
                self._written = token

    def remove(self) -> None:
        """Remove the file, if that is possible, and never write it again."""
        with self._lock:
            self._is_removed = True
            if self._remove:
                self._remove()

    def keep_current(self) -> None:
        """Update the file until it is removed. A failure is reported once, and tried again."""
        while not self._is_removed:
            self._clock.sleep(self._poll_seconds())
            try:
                self.update()
            except (Failure, OSError) as error:
                self._report(error)
            else:
                self._has_failed = False

    def _poll_seconds(self) -> float:
        """Return when to look for a new token, which another process may have fetched."""
        if self._has_failed:
            return _RETRY_SECONDS
        left = self._written.expires_at - self._clock.now() if self._written else 0.0
        return max(min(_POLL_SECONDS, left / 10), _SHORTEST_POLL)

    def _report(self, error: Failure | OSError) -> None:
        if not self._has_failed:
            self._has_failed = True
            reason = error.strerror if isinstance(error, OSError) else failure_lines(error)[0]
            print_notice(
                f"warning: {sanitize(self.name)} keeps its previous token, because it "
                f"cannot be replaced: {reason}. This is tried again until it succeeds"
            )


def fetch_files(
    args: argparse.Namespace, targets: list[Target], files: list[TokenFile], *, preload: bool
) -> int:
    """Fetch a first token for each target, and add its file to ``files``; return an exit status.

    The files are not written yet. Without ``preload``, a cached token is returned faster.
    """
    client = token_client(args, preload=preload)
    for target in targets:
        file = TokenFile(target, client)
        try:
            file.fetch()
        except Failure as failure:
            return print_failure(args, target.resource, failure)
        files.append(file)
    join_all(_FETCH_END_SECONDS)  # the caller blocks signals, in this thread only
    return 0


def targets_in_memory(args: argparse.Namespace) -> tuple[list[Target], dict[str, MemoryFile]]:
    """Return the targets of ``exec``, and its variables with the files that they name.

    Raises:
        ValueError: for an invalid flag.
    """
    if (args.token_file or args.pgpass) and not IS_SUPPORTED:
        raise ValueError("--token-file and --pgpass require Linux, which has files in memory")
    pairs = [_split(each, "VARIABLE") for each in args.token_file]
    invalid = [name for name, _ in pairs if not is_variable_name(name)]
    if invalid:
        raise ValueError(f"--token-file: {invalid[0]!r} is not the name of a variable")
    forms: list[tuple[str, str, Callable[[str], str]]] = [(*pair, str) for pair in pairs]
    if args.pgpass:
        from .pgpass import pgpass_content, pgpass_resource  # `serve` does not need it

        content = partial(pgpass_content, args.pgpass)
        forms.append(("PGPASSFILE", pgpass_resource(args), content))
    files = {name: MemoryFile(name, mode=_MODE) for name, _, _ in forms}
    if len(files) < len(forms):
        raise ValueError("--token-file and --pgpass set the same variable twice")
    targets = [Target(n, resource, files[n].write, content) for n, resource, content in forms]
    return targets, files


def targets_at_paths(args: argparse.Namespace) -> list[Target]:
    """Return the targets of ``serve``.

    Raises:
        ValueError: for an invalid flag.
    """
    pairs = [_split(each, "PATH") for each in args.token_file]
    if len({path for path, _ in pairs}) < len(pairs):
        raise ValueError("--token-file names the same path twice")
    from pathlib import Path  # `exec` does not need it

    if pipes := [path for path, _ in pairs if Path(path).is_fifo()]:
        raise ValueError(f"--token-file: {pipes[0]!r} is a pipe, which cannot hold a token")
    return [Target(path, resource, partial(write_output, path)) for path, resource in pairs]


def warn_of_disks(targets: list[Target]) -> None:
    """Warn about paths where a token remains on a disk if this process is killed."""
    from .._shared_cache.mounts import current_mounts  # `exec` does not need it

    mounts = current_mounts()
    for path in (target.name for target in targets):
        if mounts.devices and not mounts.in_memory(os.path.dirname(os.path.abspath(path))):
            print_notice(
                f"warning: {sanitize(path)} is not in memory: if this process is killed, the token "
                "remains there; use a directory such as /dev/shm or /run/user/1000"
            )


def _split(argument: str, what: str) -> tuple[str, str]:
    name, _, resource = argument.rpartition("=")
    if not name or not resource:
        raise ValueError(f"--token-file: {argument!r} is not {what}=RESOURCE")
    return name, resource_of((resource,))

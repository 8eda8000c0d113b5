"""What a process has one of: the broker, and the cache of each directory."""

from __future__ import annotations

import functools
import os
from contextlib import suppress

from .._core.identity import choose
from .._machine.choice import known_machines, machine_cache
from .._runtime.clock import SYSTEM_CLOCK
from .._runtime.environment import Environment
from .._runtime.fork import whole
from .._sources.detect import detect
from .broker import Broker
from .manner import listens
from .provider import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.identity import Identity
    from .._sources.kinds import TokenSource
    from .manner import Manner


def process_broker() -> Broker:
    """The one broker of this process."""
    return _BROKER


def _random() -> float:
    """A number in [0, 1). The module that has them takes a millisecond of each start to load."""
    return int.from_bytes(os.urandom(6), "big") / (1 << 48)


# Made with the module: threads that begin together would each make one at the first call.
_BROKER = Broker(SYSTEM_CLOCK, _random)


def provider_for(
    *,
    client_id: str | None = None,
    object_id: str | None = None,
    resource_id: str | None = None,
    identity_config: Mapping[str, str | None] | None = None,
    source: str | None = None,
    arc_tokens_directory: str | os.PathLike[str] | None = None,
    cache: bool | str | os.PathLike[str] | None = None,
    private: bool = False,
    broker: Broker | None = None,
    manner: Manner | None = None,
) -> Provider:
    """What gets tokens, for a face or a command with these settings.

    Args:
        client_id: selects a user-assigned identity, like the next three.
        object_id: likewise.
        resource_id: likewise.
        identity_config: likewise, as azure-identity takes it.
        source: ``imds`` or ``arc``, in place of what is detected.
        arc_tokens_directory: where an Arc agent keeps its key files, if elsewhere.
        cache: the directory that processes share, or ``off`` or False.
        private: whether nothing is shared with other processes unless ``cache`` names a directory.
        broker: in place of the one of this process.
        manner: how the caller wants to be served, if it matters.

    Raises:
        ValueError: for a setting that is not understood.
    """
    identity = choose(
        client_id=client_id,
        object_id=object_id,
        resource_id=resource_id,
        identity_config=identity_config,
    )
    environment = Environment()
    find = functools.partial(_find, source, arc_tokens_directory, identity)
    where = find(environment)
    if listens():
        _log_choice(where, source, environment)
    machine = machine_cache(cache, private=private or broker is not None, environment=environment)
    # What the environment has named once is used for every request. Where it names nothing yet, it
    # may by the first one: a test's fixture sets it when its modules have been imported.
    look_again = None if where.variable else find
    return Provider(where, identity, broker or process_broker(), machine, manner, look_again)


def _find(
    forced: str | None,
    tokens_directory: str | os.PathLike[str] | None,
    identity: Identity,
    environment: Environment | None = None,
) -> TokenSource:
    env = environment or Environment()
    where = detect(forced, tokens_directory=tokens_directory, environment=env)
    where.check_selector(identity)
    return where


def _log_choice(chosen: TokenSource, forced: str | None, environment: Environment) -> None:
    with whole():
        import logging

        from .._sources.explain import explain

        reasons = explain(forced, environment=environment)
        logging.getLogger("imds_identity").debug("tokens come from %s; %s", chosen, reasons)


def forget_everything() -> None:
    """Forget what this process holds, and what it shares with others."""
    process_broker().clear()
    with suppress(ValueError):  # a setting that is not understood: nothing is shared by it
        machine_cache()  # a process that has asked for nothing yet does not know of it
    for machine in known_machines():
        machine.clear()

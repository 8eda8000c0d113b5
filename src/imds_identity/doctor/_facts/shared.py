"""The shared cache, looked at and not made."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from ..._core.challenge import claims_in
from ..._core.failure import quote
from ..._core.identity import Identity
from ..._machine.choice import chosen, default_places, machine_cache
from ..._machine.gate import gate_for
from ..._machine.memory import mounts
from .facts import Shared, SharedToken

if TYPE_CHECKING:
    from ..._machine.entries import Entry
    from ..._machine.store import MachineCache
    from ..._runtime.environment import Environment
    from ..._sources.kinds import TokenSource


def shared_of(
    named: bool | str | os.PathLike[str] | None, source: TokenSource, environment: Environment
) -> Shared:
    """What this user's processes share.

    Args:
        named: the directory that the caller names, or ``off``.
        source: whose pause to look for.
        environment: the variables.

    Raises:
        ValueError: for a setting that is not understood.
    """
    machine = machine_cache(named, environment=environment)
    if machine is None:
        return Shared(is_off=True)
    path, problem = _used(machine, named, environment)
    if problem or not os.path.isdir(path):
        return Shared(path=path, problem=problem)
    return _content(path, machine, source)


def _used(
    machine: MachineCache, named: bool | str | os.PathLike[str] | None, environment: Environment
) -> tuple[str, str]:
    """The directory that is used, or would be; else the first one, and why it is not."""
    paths = [machine.directory.path]
    setting = environment["IMDS_IDENTITY_CACHE"] if named is None else named
    if isinstance(setting, bool) or chosen(setting, "cache") is None:  # False shares nothing at all
        here = mounts()
        places = default_places(environment["XDG_RUNTIME_DIR"] or None)
        paths = [path for path in places if here.in_memory(os.path.dirname(path))] or [""]
    judged = [(path, directory_problem(path)) for path in paths]
    return next((sound for sound in judged if not sound[1]), judged[0])


def directory_problem(path: str) -> str:
    """Why a directory is not used; empty if it is, or would be made when it is needed."""
    if not path:
        return "there is no place in memory for it here"
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "it is no directory"
    if sys.platform == "win32":
        return _access_problem(path)
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, and this process is user {os.geteuid()}"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return f"others may enter it: its mode is {stat.S_IMODE(status.st_mode):o}"
    return ""


def _access_problem(path: str) -> str:
    from ..._runtime.windows import strangers

    try:
        found = strangers(path)
    except OSError as error:
        return error.strerror or str(error)
    return f"others may enter it: {', '.join(found)}" if found else ""


def _content(path: str, machine: MachineCache, source: TokenSource) -> Shared:
    entries = machine.entries()
    now = machine.clock.now()
    gate = gate_for(machine, source, _middle)
    return Shared(
        path=path,
        tokens=tuple(_token(entry, now) for entry in entries if entry.token),
        failures=sum(entry.token is None for entry in entries),
        paused_seconds=gate.remaining(),
    )


def _token(entry: Entry, now: float) -> SharedToken:
    claims = claims_in(entry.token.value) if entry.token else {}
    key = entry.key
    return SharedToken(
        quote(key.resource),
        quote(key.endpoint),
        quote(str(Identity(key.selector, key.identity))),
        quote(str(claims.get("oid", ""))),
        entry.token.expires_at - now if entry.token else 0.0,
    )


def _middle() -> float:
    return 0.5

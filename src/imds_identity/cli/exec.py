"""``imds-identity exec``: a program with a token endpoint of its own."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .._core.identity import SYSTEM_ASSIGNED, ascii_lower
from .._endpoint.child import MISLEADING, become, new_child, status_of
from .._endpoint.listen import LOOPBACK, base_url, listen_at
from .._endpoint.secret import new_secret
from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import for_child
from .._platform.fork import load
from .._platform.threads import start_thread
from .arguments import client_of
from .endpoint_arguments import add_endpoint, identity_of, resources_of
from .output import complain, tell

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Callable

    from .._core.identity import Identity
    from .._core.secret import Secret

_EXAMPLES = """\
examples:
  imds-identity exec -- terraform plan
  imds-identity exec --env PASSWORD=kv://my-vault/db -- ./app
"""
_KEPT: tuple[str, ...] = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR",
)  # fmt: skip
if sys.platform == "win32":  # where programs do not even start without the first ones
    _KEPT = (
        "PATH", "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERNAME",
        "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "WINDIR",
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.usage = "imds-identity exec [FLAGS] -- COMMAND [ARGUMENT ...]"
    parser.epilog = _EXAMPLES
    parser.description = (
        "Runs a command with a token endpoint of its own, which every Azure SDK knows: App "
        "Service's. It listens on 127.0.0.1 while the command runs, and gives tokens to whoever "
        "knows the secret in the command's environment."
    )
    add_endpoint(parser)
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=kv://VAULT/SECRET[/VERSION][#JSON.KEY]",
        help="a variable with a secret of a key vault; may be repeated. With it or --file there "
        "is no token endpoint but by --endpoint or --allow-resource",
    )
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="NAME=kv://...",
        help="a variable with the path of a file in memory that holds the secret; may be repeated",
    )
    parser.add_argument(
        "--vault-resource",
        metavar="RESOURCE",
        help="what the vault's token is for, where the vault has a name of your own",
    )
    parser.add_argument(
        "--cloud", metavar="NAME", help="where kv://VAULT is (default: in the machine's own cloud)"
    )
    parser.add_argument(
        "--endpoint",
        action="store_true",
        help="give a token endpoint, too, where secrets are asked for",
    )
    parser.add_argument(
        "--pristine",
        action="store_true",
        help=f"give the command of this environment {', '.join(_KEPT)} and LC_* alone",
    )
    parser.add_argument("words", nargs="...", metavar="COMMAND", help="what to run, after --")


def run(args: argparse.Namespace) -> int:
    """Run the command that ``args`` name.

    Returns:
        Its exit status; 128 and the number of the signal that ended it; 127 if there is no such
        command, and 126 if it cannot be run. On Windows, what Ctrl-C has ended has 0xC000013A.

    Raises:
        ValueError: if they ask for nonsense.
    """
    command = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not command:
        raise ValueError("exec takes a command to run: imds-identity exec -- COMMAND")
    identity = identity_of(args)
    environment = _environment(args)
    has_secrets = bool(args.env or args.file)
    has_endpoint = args.endpoint or args.allow_resource is not None or not has_secrets
    if has_secrets:
        from .secret_variables import SecretsMissing, variables_with_secrets

        try:
            environment |= variables_with_secrets(args, inheritable=not has_endpoint)
        except SecretsMissing as missing:
            return complain(missing)
    if not has_endpoint:
        if sys.platform == "win32":  # where no process becomes another
            return _see_through(command, environment)
        return _replace_process(command, environment)
    _warn_of_another(identity, environment)
    return _run_with_endpoint(args, identity, command, environment)


def _environment(args: argparse.Namespace) -> dict[str, str]:
    """What the command gets of this process's environment."""
    return {
        name: value
        for name, value in for_child({}).items()
        if not args.pristine or name in _KEPT or name.startswith("LC_")
    }


def _warn_of_another(identity: Identity | None, environment: dict[str, str]) -> None:
    named = environment.get("AZURE_CLIENT_ID", "")
    if not named or (
        identity
        and (identity.selector, ascii_lower(identity.value)) == ("client_id", ascii_lower(named))
    ):
        return
    meant = f"identity with {identity}" if identity else "system-assigned identity"
    tell(
        f"warning: AZURE_CLIENT_ID={sanitize(named)!r} is set and makes many programs ask for that "
        f"identity, not for the {meant}; unset it, or pass --client-id with the same"
    )


def _run_with_endpoint(
    args: argparse.Namespace,
    identity: Identity | None,
    command: list[str],
    environment: dict[str, str],
) -> int:
    secret, resources = new_secret(), resources_of(args)
    if any((identity, args.source, args.arc_tokens_directory, args.cache)):
        # What is wrong with the flags is said before anything runs.
        client_of(args, identity or SYSTEM_ASSIGNED)
    listener = listen_at(LOOPBACK)
    for name in MISLEADING:
        environment.pop(name, None)
    environment["IDENTITY_ENDPOINT"] = f"{base_url(*listener.getsockname())}/msi/token"
    environment["IDENTITY_HEADER"] = secret.reveal()
    # Until the first request is read, the system keeps it: what serves is loaded while the command
    # starts.
    serve = partial(_serve, args, listener, secret, identity, resources)
    return _see_through(command, environment, serve)


def _see_through(
    command: list[str], environment: dict[str, str], beside: Callable[[], None] | None = None
) -> int:
    """Run ``command``, and ``beside`` in a thread meanwhile; the command's exit status."""
    with new_child() as child:
        try:
            child.start(command, environment)
        except OSError as error:
            return _cannot_run(command, error)
        if beside is not None:
            start_thread(beside)
        return child.wait()


def _replace_process(command: list[str], environment: dict[str, str]) -> int:
    """Become ``command``; the exit status if that cannot be."""
    try:
        become(command, environment)
    except OSError as error:
        return _cannot_run(command, error)


def _cannot_run(command: list[str], error: OSError) -> int:
    complain(f"{sanitize(command[0])} cannot be run: {error.strerror}")
    return status_of(error)


def _serve(
    args: argparse.Namespace,
    listener: socket.socket,
    secret: Secret,
    identity: Identity | None,
    resources: list[str] | None,
) -> None:
    from .._endpoint.handler import Desk
    from .._endpoint.policy import Rules
    from .._endpoint.server import Server

    start_thread(_warm_up)
    rules = Rules(secret, identity=identity, resources=resources)
    desk = Desk(partial(client_of, args, preload=True), SYSTEM_CLOCK)
    Server([listener], rules, desk.give, SYSTEM_CLOCK).serve()


def _warm_up() -> None:
    """Load what gets tokens before the first one is asked for."""
    load("imds_identity._token_cache.process")
    shared = load("imds_identity._shared_cache.location").shared_cache_for()
    # Where other processes have left tokens, one of those will mostly do. On a busy machine, it
    # would take its time from the command itself.
    is_busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)
    if (shared is None or not shared.records()) and not is_busy:
        load("imds_identity._http.transport")

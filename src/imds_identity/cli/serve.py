"""``imds-identity serve``: a token endpoint for programs that others start."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from .._core.identity import SYSTEM_ASSIGNED
from .._endpoint.handler import Desk
from .._endpoint.listen import (
    LOOPBACK,
    address_of,
    base_url,
    inherited,
    listen_at,
    listen_on,
    notify,
)
from .._endpoint.policy import APP_SERVICE_PATH, IMDS_PATH, Rules
from .._endpoint.secret import new_secret, secret_in
from .._endpoint.server import Server
from .._platform.clock import SYSTEM_CLOCK
from .._platform.environment import Environment
from .._platform.files import write_atomically
from .._platform.threads import start_thread
from .arguments import client_of
from .endpoint_arguments import add_endpoint, identity_of, resources_of
from .output import complain, tell

if TYPE_CHECKING:
    import argparse

    from .._core.secret import Secret

_APP_SERVICE, _IMDS = "app-service", "imds"
_EXAMPLES = """\
examples:
  imds-identity serve --env-file /run/user/1000/tokens.env
  imds-identity serve --unix /run/tokens/socket --allow-uid 1001
"""
_ENDS = {signal.SIGTERM, signal.SIGINT} | ({signal.SIGHUP} if hasattr(signal, "SIGHUP") else set())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments to its parser."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "Serves tokens to programs on this machine, and to containers if --bind says so, until it "
        "is ended by a signal. A service manager may hand it sockets that listen, and is told when "
        "it is ready."
    )
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        help=f"the address to listen at (default: {LOOPBACK}); one that other machines or "
        "containers reach needs --allow-resource and --secret-file",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the port to listen at (default: any that is free)"
    )
    parser.add_argument(
        "--allow-every-interface",
        action="store_true",
        help="let --bind be 0.0.0.0 or ::, where every network of this machine reaches it",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which clients know this machine, such as host.docker.internal",
    )
    parser.add_argument(
        "--unix",
        metavar="SOCKET",
        help="listen at a Unix socket, whose clients are known by their uid",
    )
    parser.add_argument(
        "--allow-uid",
        action="append",
        type=int,
        metavar="UID",
        help="who may use the Unix socket (default: this user and root); may be repeated",
    )
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="a file of mode 0600 with the secret that clients send",
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        help="write the variables that clients need to this file, of mode 0600",
    )
    parser.add_argument(
        "--protocol",
        default=_APP_SERVICE,
        metavar="PROTOCOL",
        help=f"{_APP_SERVICE} (default), {_IMDS} or both with a comma between; {_IMDS} is for "
        "clients that know nothing else, under a path that only --env-file tells",
    )
    add_endpoint(parser)


def run(args: argparse.Namespace) -> int:
    """Serve what ``args`` say; the exit status.

    Raises:
        ValueError: if they ask for nonsense.
    """
    if not hasattr(signal, "pthread_sigmask"):
        return complain("serve needs Linux or another POSIX system")
    protocols = _protocols(args)
    resources_of(args)
    client_of(args, identity_of(args) or SYSTEM_ASSIGNED)  # what is wrong is said at once
    environment = Environment()
    # From here on, so that every thread leaves them to the end of this function.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    with ExitStack() as stack:
        try:
            listeners = _listeners(args, environment, stack)
            for listener in listeners:
                stack.callback(listener.close)
            secret = _secret(args, listeners)
            rules = _rules(args, protocols, listeners, secret)
            _write_env_file(args, protocols, listeners, secret, stack)
        except OSError as error:
            return complain(f"{error.filename or args.bind or LOOPBACK}: {error.strerror}")
        server = Server(
            listeners,
            rules,
            Desk(partial(client_of, args, preload=True), SYSTEM_CLOCK).give,
            SYSTEM_CLOCK,
        )
        start_thread(partial(_serve, server))
        for listener in listeners:
            tell(f"listening at {_shown(listener)}")
        notify(environment["NOTIFY_SOCKET"], "READY=1")
        signal.sigwait(_ENDS)
        notify(environment["NOTIFY_SOCKET"], "STOPPING=1")
        server.stop()
    return 0


def _serve(server: Server) -> None:
    try:
        server.serve()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # nothing is left to wait for


def _protocols(args: argparse.Namespace) -> set[str]:
    named = set(args.protocol.split(","))
    if not named <= {_APP_SERVICE, _IMDS}:
        raise ValueError(
            f"--protocol is {_APP_SERVICE}, {_IMDS} or both with a comma between, "
            f"not {args.protocol!r}"
        )
    return named


def _listeners(
    args: argparse.Namespace, environment: Environment, stack: ExitStack
) -> list[socket.socket]:
    """The sockets to serve at: the service manager's, or those that the flags name.

    Raises:
        OSError: if one cannot be had.
        ValueError: for a flag that is not understood.
    """
    listeners = inherited(environment["LISTEN_PID"], environment["LISTEN_FDS"])
    if listeners and (args.bind or args.unix):
        raise ValueError("the service manager has opened the sockets: leave out --bind and --unix")
    if listeners:
        return listeners
    if args.unix:
        mode = 0o600 if args.allow_uid is None else 0o666
        if not hasattr(socket, "SO_PEERCRED"):
            raise ValueError("--unix needs Linux, which tells who is at the other end")
        listeners.append(listen_on(args.unix, mode))
        stack.callback(_unlink, args.unix)
    if args.bind or not args.unix:
        _check_bind(args)
        listeners.append(listen_at(args.bind or LOOPBACK, args.port))
    return listeners


def _check_bind(args: argparse.Namespace) -> None:
    if not 0 <= args.port < 65536:
        raise ValueError(f"--port is a number from 0 to 65535, not {args.port}")
    try:
        ipaddress.ip_address(args.bind or LOOPBACK)
    except ValueError:
        raise ValueError(f"--bind takes an IP address, not {args.bind!r}") from None
    _check_reach(args, args.bind or LOOPBACK)


def _check_reach(args: argparse.Namespace, address: str) -> None:
    """Refuse to listen where others reach it, unless that was clearly meant."""
    where = ipaddress.ip_address(address)
    if where.is_loopback:
        return
    if where.is_unspecified and not args.allow_every_interface:
        raise ValueError(
            f"{address} is reached from every network of this machine: name one address, or say "
            "--allow-every-interface"
        )
    if args.allow_resource is None or args.secret_file is None:
        raise ValueError(
            f"{address} is reached by others than this machine's programs: --allow-resource must "
            "say what tokens are for, and --secret-file what clients must know"
        )


def _secret(args: argparse.Namespace, listeners: list[socket.socket]) -> Secret:
    addresses = _addresses(listeners)
    for address, _ in addresses:
        _check_reach(args, address)
    if args.secret_file is not None:
        return secret_in(args.secret_file)
    if addresses and args.env_file is None:
        raise ValueError("clients need a secret: name an --env-file for it, or a --secret-file")
    return new_secret()


def _rules(
    args: argparse.Namespace, protocols: set[str], listeners: list[socket.socket], secret: Secret
) -> Rules:
    addresses = _addresses(listeners)
    is_local = all(ipaddress.ip_address(address).is_loopback for address, _ in addresses)
    return Rules(
        secret,
        # To others than this machine's programs, it speaks for one identity only.
        identity=identity_of(args) or (None if is_local else SYSTEM_ASSIGNED),
        resources=resources_of(args),
        app_service=_APP_SERVICE in protocols,
        imds=_IMDS in protocols,
        names=args.allow_host,
        uids=(0, os.geteuid()) if args.allow_uid is None else args.allow_uid,
    )


def _write_env_file(
    args: argparse.Namespace,
    protocols: set[str],
    listeners: list[socket.socket],
    secret: Secret,
    stack: ExitStack,
) -> None:
    if args.env_file is None:
        return
    addresses = _addresses(listeners)
    if not addresses:
        raise ValueError("--env-file is for clients that speak TCP: add --bind 127.0.0.1")
    address, port = addresses[0]
    if not args.allow_host and ipaddress.ip_address(address).is_unspecified:
        raise ValueError(f"no client can ask {address}: say with --allow-host what it asks")
    url = base_url(args.allow_host[0] if args.allow_host else address, port)
    lines = []
    if _APP_SERVICE in protocols:
        lines += [
            f"IDENTITY_ENDPOINT={url}{APP_SERVICE_PATH}",
            f"IDENTITY_HEADER={secret.reveal()}",
        ]
    if _IMDS in protocols:
        lines += [
            f"AZURE_POD_IDENTITY_AUTHORITY_HOST={url}/{secret.reveal()}",
            # What Terraform and object_store read.
            f"ARM_MSI_ENDPOINT={url}/{secret.reveal()}{IMDS_PATH}",
            f"AZURE_MSI_ENDPOINT={url}/{secret.reveal()}{IMDS_PATH}",
        ]
    write_atomically(args.env_file, "".join(f"{line}\n" for line in lines).encode())
    stack.callback(_unlink, args.env_file)


def _addresses(listeners: list[socket.socket]) -> list[tuple[str, int]]:
    """The IP addresses and ports of ``listeners``, of which some may be Unix sockets."""
    return [found for found in map(address_of, listeners) if found is not None]


def _shown(listener: socket.socket) -> str:
    address = address_of(listener)
    return base_url(*address) if address else str(listener.getsockname())


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)

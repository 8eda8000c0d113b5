"""``imds-identity serve``: serve tokens to other programs on this machine."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.identity import SYSTEM_ASSIGNED
from .._endpoint.listen import (
    LOOPBACK,
    base_url,
    first_unprivileged_port,
    inherited_sockets,
    ip_address_of,
    listen_tcp,
    listen_unix,
    notify_service_manager,
)
from .._endpoint.policy import IMDS_PATH, AccessPolicy, app_service_variables
from .._endpoint.secret import new_secret, read_secret
from .._platform.environment import Environment
from .._platform.output_files import remove_if_same, write_output
from .._platform.threads import start_thread
from .arguments import token_client
from .endpoint_arguments import add_endpoint, identity_of, resources_of, token_server
from .output import print_error, print_notice
from .token_files import fetch_files, targets_at_paths, warn_of_disks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from .._core.secret import Secret
    from .._endpoint.server import TokenServer
    from .token_files import TokenFile

_APP_SERVICE, _IMDS = "app-service", "imds"
_EXAMPLES = """\
examples:
  imds-identity serve --env-file /run/user/1000/tokens.env
  imds-identity serve --unix /run/tokens/socket --allow-uid 1001
"""
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
if hasattr(signal, "SIGHUP"):
    _STOP_SIGNALS.add(signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.epilog = _EXAMPLES
    parser.description = (
        "Serves tokens to programs on this machine, and with --bind to containers, until a signal "
        "stops it. It supports systemd's socket activation and readiness notification."
    )
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        help=f"the IP address to listen on (default: {LOOPBACK}); an address that containers or "
        "other machines can reach requires --allow-resource and --secret-file",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the port to listen on (default: any free port)"
    )
    parser.add_argument(
        "--allow-every-interface",
        action="store_true",
        help="allow --bind 0.0.0.0 or ::, which every network of this machine can reach",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="accept this host name in requests, such as host.docker.internal; may be repeated",
    )
    parser.add_argument(
        "--unix",
        metavar="SOCKET",
        help="listen on a Unix socket, which authenticates clients by their uid",
    )
    parser.add_argument(
        "--allow-uid",
        action="append",
        type=int,
        metavar="UID",
        help="allow this user to use the Unix socket (default: this user and root); may be "
        "repeated",
    )
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="read the secret that clients must send from this file of mode 0600 (default: a new "
        "secret); with an unprivileged --port, another user may receive it while this command does "
        "not run: prefer --unix or socket activation",
    )
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        help="write the environment variables for clients to this file, with mode 0600",
    )
    parser.add_argument(
        "--token-file",
        action="append",
        default=[],
        metavar="PATH=RESOURCE",
        help="keep a current token for a resource in this file of mode 0600, preferably in memory "
        "as in /run; may be repeated",
    )
    parser.add_argument(
        "--protocol",
        default=_APP_SERVICE,
        metavar="PROTOCOL",
        help=f"{_APP_SERVICE} (default), {_IMDS} or both, separated by a comma; {_IMDS} is for "
        "clients that support no other, under a secret path that --env-file contains",
    )
    add_endpoint(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives; return the exit status."""
    if not hasattr(signal, "pthread_sigmask"):
        return print_error("serve requires Linux or another POSIX system")
    protocols = _protocols(args)
    resources_of(args)
    targets = targets_at_paths(args)
    # Reports invalid flags, and imports what fetches tokens before the first request.
    token_client(args, identity_of(args) or SYSTEM_ASSIGNED, preload=True)
    # Here, because signals must be able to end the command while it waits for the service.
    files: list[TokenFile] = []
    if status := fetch_files(args, targets, files, preload=True):
        return status
    environment = Environment()
    # Blocked before there are threads, which inherit this, so that only `sigwait` receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    with ExitStack() as stack:
        try:
            listeners = _listeners(args, environment, stack)
            for listener in listeners:
                stack.callback(listener.close)
            secret = _secret(args, listeners)
            policy = _policy(args, protocols, listeners, secret)
            with _interruptible(args.env_file):
                _write_env_file(args, protocols, listeners, secret, stack)
            for file in files:
                stack.callback(file.remove)
                file.write()
        except OSError as error:
            return print_error(f"{error.filename or args.bind or LOOPBACK}: {error.strerror}")
        server = token_server(args, listeners, policy)
        start_thread(partial(_serve, server))
        for file in files:
            start_thread(file.keep_current)
        for listener in listeners:
            print_notice(f"listening on {_location(listener)}")
        with suppress(OSError):  # the list of mounts cannot be read
            warn_of_disks(targets)
        notify_service_manager(environment["NOTIFY_SOCKET"], "READY=1")
        signal.sigwait(_STOP_SIGNALS)
        notify_service_manager(environment["NOTIFY_SOCKET"], "STOPPING=1")
        server.stop()
    return 0


@contextmanager
def _interruptible(path: str | None) -> Iterator[None]:
    """Let signals end this process if ``path`` is a pipe: opening it waits for its reader."""
    if path is None or not Path(path).is_fifo():
        yield
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)


def _serve(server: TokenServer) -> None:
    try:
        server.serve()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)  # ends the process if the server has crashed


def _protocols(args: argparse.Namespace) -> set[str]:
    protocols = set(args.protocol.split(","))
    if not protocols <= {_APP_SERVICE, _IMDS}:
        raise ValueError(
            f"--protocol must be {_APP_SERVICE}, {_IMDS} or both, separated by a comma, "
            f"not {args.protocol!r}"
        )
    return protocols


def _listeners(
    args: argparse.Namespace, environment: Environment, stack: ExitStack
) -> list[socket.socket]:
    """Return the service manager's sockets, or else those that the flags select."""
    listeners = inherited_sockets(environment["LISTEN_PID"], environment["LISTEN_FDS"])
    if listeners and (args.bind or args.unix):
        raise ValueError("the service manager passes the sockets: omit --bind and --unix")
    if listeners:
        return listeners
    if args.unix:
        mode = 0o600 if args.allow_uid is None else 0o666
        if not hasattr(socket, "SO_PEERCRED"):
            raise ValueError("--unix requires Linux, which identifies the user of a Unix socket")
        listeners.append(listen_unix(args.unix, mode))
        stack.callback(remove_if_same, args.unix, os.lstat(args.unix))
    if args.bind or not args.unix:
        _check_bind(args)
        listeners.append(listen_tcp(args.bind or LOOPBACK, args.port))
        _warn_of_fixed_port(args)
    return listeners


def _warn_of_fixed_port(args: argparse.Namespace) -> None:
    """Warn if another user could listen in place of this process and receive the secret."""
    if args.secret_file is None or not args.port or args.port < first_unprivileged_port():
        return
    print_notice(
        f"warning: while this command does not run, any user can listen on port {args.port} and "
        "receive the secret from clients. Use --unix or systemd's socket activation; or omit "
        "--secret-file and --port, and pass --env-file: the secret is then new each time"
    )


def _check_bind(args: argparse.Namespace) -> None:
    if not 0 <= args.port < 65536:
        raise ValueError(f"--port must be a number from 0 to 65535, not {args.port}")
    try:
        ipaddress.ip_address(args.bind or LOOPBACK)
    except ValueError:
        raise ValueError(f"--bind must be an IP address, not {args.bind!r}") from None
    _check_reach(args, args.bind or LOOPBACK)


def _check_reach(args: argparse.Namespace, address: str) -> None:
    """Refuse an address that others can reach, unless the flags protect it."""
    ip_address = ipaddress.ip_address(address)
    if ip_address.is_loopback:
        return
    if ip_address.is_unspecified and not args.allow_every_interface:
        raise ValueError(
            f"every network of this machine can reach {address}: bind a specific address, or pass "
            "--allow-every-interface"
        )
    if args.allow_resource is None or args.secret_file is None:
        raise ValueError(
            f"containers or other machines can reach {address}: pass --allow-resource and "
            "--secret-file"
        )


def _secret(args: argparse.Namespace, listeners: list[socket.socket]) -> Secret:
    addresses = _addresses(listeners)
    for address, _ in addresses:
        _check_reach(args, address)
    if args.secret_file is not None:
        return read_secret(args.secret_file)
    if addresses and args.env_file is None:
        raise ValueError("clients need the secret: pass --env-file or --secret-file")
    return new_secret()


def _policy(
    args: argparse.Namespace, protocols: set[str], listeners: list[socket.socket], secret: Secret
) -> AccessPolicy:
    addresses = _addresses(listeners)
    is_local = all(ipaddress.ip_address(address).is_loopback for address, _ in addresses)
    return AccessPolicy(
        secret,
        # Only programs on this machine may choose the identity.
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
        raise ValueError("--env-file requires a TCP address: add --bind 127.0.0.1")
    address, port = addresses[0]
    if not args.allow_host and ipaddress.ip_address(address).is_unspecified:
        raise ValueError(
            f"clients cannot connect to {address}: pass the host name that they use with "
            "--allow-host"
        )
    url = base_url(args.allow_host[0] if args.allow_host else address, port)
    lines = []
    if _APP_SERVICE in protocols:
        lines += [f"{name}={value}" for name, value in app_service_variables(url, secret).items()]
    if _IMDS in protocols:
        lines += [
            f"AZURE_POD_IDENTITY_AUTHORITY_HOST={url}/{secret.reveal()}",
            # For Terraform and object_store.
            f"ARM_MSI_ENDPOINT={url}/{secret.reveal()}{IMDS_PATH}",
            f"AZURE_MSI_ENDPOINT={url}/{secret.reveal()}{IMDS_PATH}",
        ]
    stack.callback(write_output(args.env_file, "".join(f"{line}\n" for line in lines).encode()))


def _addresses(listeners: list[socket.socket]) -> list[tuple[str, int]]:
    """Return the IP addresses and ports of the listeners that are not Unix sockets."""
    return [found for found in map(ip_address_of, listeners) if found is not None]


def _location(listener: socket.socket) -> str:
    address = ip_address_of(listener)
    return base_url(*address) if address else str(listener.getsockname())

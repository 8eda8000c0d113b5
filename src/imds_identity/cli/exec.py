"""``imds-identity exec``: run a command with its own token endpoint."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from .._core.failure import sanitize
from .._core.identity import SYSTEM_ASSIGNED, ascii_lower
from .._endpoint.child import exit_status_of, new_child, replace_process
from .._platform.environment import for_child
from .._platform.threads import start_thread
from .arguments import add_cloud, token_client
from .endpoint_arguments import add_endpoint, identity_of, resources_of, token_server
from .output import print_error, print_notice

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Callable, Sequence

    from .._core.identity import Identity
    from .._core.secret import Secret
    from .token_files import TokenFile

_EXAMPLES = """\
examples:
  imds-identity exec -- terraform plan
  imds-identity exec --env PASSWORD=kv://my-vault/db -- ./app
"""
_START_SECONDS = 5.0
_PRISTINE: tuple[str, ...] = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "TZ", "TMPDIR",
)  # fmt: skip
if sys.platform == "win32":  # programs cannot even start without the first ones
    _PRISTINE = (
        "PATH", "SYSTEMROOT", "SYSTEMDRIVE", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERNAME",
        "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "WINDIR",
    )  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.usage = "imds-identity exec [FLAGS] -- COMMAND [ARGUMENT ...]"
    parser.epilog = _EXAMPLES
    parser.description = (
        "Runs a command with its own token endpoint, which has App Service's protocol and so works "
        "with every Azure SDK. The endpoint listens on 127.0.0.1 while the command runs and "
        "requires the secret in the command's environment."
    )
    add_endpoint(parser)
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=kv://VAULT/SECRET[/VERSION][#JSON.KEY]",
        help="set a variable to a Key Vault secret; may be repeated. This and the next four flags "
        "disable the token endpoint, unless --endpoint or --allow-resource is given",
    )
    parser.add_argument(
        "--file",
        action="append",
        default=[],
        metavar="NAME=kv://...",
        help="set a variable to the path of a file in memory with the secret; may be repeated",
    )
    parser.add_argument(
        "--token-file",
        action="append",
        default=[],
        metavar="VARIABLE=RESOURCE",
        help="set a variable to the path of a file in memory that always holds a current token for "
        "a resource, such as AWS_WEB_IDENTITY_TOKEN_FILE=api://AzureADTokenExchange; may be "
        "repeated",
    )
    parser.add_argument(
        "--pgpass",
        action="append",
        default=[],
        metavar="HOST[:PORT[:DATABASE[:USER]]]",
        help="set PGPASSFILE to a password file in memory that always holds a current token as the "
        "password of this PostgreSQL server; may be repeated",
    )
    parser.add_argument(
        "--vault-role",
        metavar="ROLE",
        help="set VAULT_TOKEN to a token of HashiCorp Vault for this role; see vault-login",
    )
    parser.add_argument(
        "--vault-resource",
        metavar="RESOURCE",
        help="the resource of tokens for Key Vault, if the vault has a custom domain",
    )
    add_cloud(parser, "kv://VAULT and of the vaults that may get a token")
    parser.add_argument(
        "--endpoint",
        action="store_true",
        help="provide a token endpoint in addition to secrets and token files",
    )
    parser.add_argument(
        "--pristine",
        action="store_true",
        help=f"pass only {', '.join(_PRISTINE)} and LC_* of this environment to the command",
    )
    parser.add_argument("words", nargs="...", metavar="COMMAND", help="the command, after --")


def run(args: argparse.Namespace) -> int:
    """Run the command; return its exit status, as a shell does."""
    command = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not command:
        raise ValueError("a command is missing: imds-identity exec -- COMMAND")
    identity = identity_of(args)
    environment = _environment(args)
    has_secrets = bool(args.env or args.file or args.vault_role)
    has_tokens = bool(args.token_file or args.pgpass)
    has_endpoint = args.endpoint or args.allow_resource is not None
    has_endpoint = has_endpoint or not (has_secrets or has_tokens)
    # Windows has no system call that replaces a process.
    is_replaced = not has_endpoint and not has_tokens and sys.platform != "win32"
    files: list[TokenFile] = []
    if has_secrets and (status := _add_secrets(args, environment, inheritable=is_replaced)):
        return status
    if has_tokens and (status := _add_token_files(args, environment, files)):
        return status
    if is_replaced:
        return _replace_process(command, environment)
    if not has_endpoint:
        return _run_in_foreground(command, environment, files=files)
    _warn_about_client_id(identity, environment)
    return _run_with_endpoint(args, identity, command, environment, files)


def _add_secrets(
    args: argparse.Namespace, environment: dict[str, str], *, inheritable: bool
) -> int:
    """Add the variables of secrets to ``environment``; return an exit status."""
    from ._api.client import ApiError, print_api_error
    from .secret_variables import UnusableSecret, secret_variables

    try:
        if args.env or args.file:
            environment |= secret_variables(args, inheritable=inheritable)
        if args.vault_role:
            from ._api.hashicorp_vault import vault_login

            environment["VAULT_TOKEN"] = vault_login(args, args.vault_role)["client_token"]
    except ApiError as error:
        return print_api_error(args, error)
    except UnusableSecret as error:
        return print_error(error)
    return 0


def _add_token_files(
    args: argparse.Namespace, environment: dict[str, str], files: list[TokenFile]
) -> int:
    """Add the variables of token files to ``environment``; return an exit status."""
    from .token_files import fetch_files, targets_in_memory

    targets, variables = targets_in_memory(args)
    if status := fetch_files(args, targets, files, preload=False):
        return status
    for file in files:
        file.write()
    environment |= {name: file.path for name, file in variables.items()}
    if args.pgpass and environment.pop("PGPASSWORD", None) is not None:
        print_notice("warning: PGPASSWORD is not passed to the command: it overrides --pgpass")
    return 0


def _environment(args: argparse.Namespace) -> dict[str, str]:
    """Return the variables that the command inherits from this process."""
    return {
        name: value
        for name, value in for_child({}).items()
        if not args.pristine or name in _PRISTINE or name.startswith("LC_")
    }


def _warn_about_client_id(identity: Identity | None, environment: dict[str, str]) -> None:
    client_id = environment.get("AZURE_CLIENT_ID", "")
    if not client_id or (
        identity
        and (identity.selector, ascii_lower(identity.value))
        == ("client_id", ascii_lower(client_id))
    ):
        return
    selected = f"identity with {identity}" if identity else "system-assigned identity"
    print_notice(
        f"warning: AZURE_CLIENT_ID={sanitize(client_id)!r} is set, so many programs will request "
        f"tokens for that identity instead of the {selected}; unset it, or pass the same value "
        "with --client-id"
    )


def _run_with_endpoint(
    args: argparse.Namespace,
    identity: Identity | None,
    command: list[str],
    environment: dict[str, str],
    files: list[TokenFile],
) -> int:
    # Imported here, because a command without an endpoint starts faster without them.
    from .._endpoint.listen import LOOPBACK, base_url, listen_tcp
    from .._endpoint.policy import app_service_variables
    from .._endpoint.secret import new_secret
    from .._sources.registry import misleading_variables

    secret, resources = new_secret(), resources_of(args)
    if any((identity, args.source, args.arc_tokens_directory, args.cache)):
        # Report invalid flags before the command starts.
        token_client(args, identity or SYSTEM_ASSIGNED)
    listener = listen_tcp(LOOPBACK)
    own = {file.name for file in files}
    for name in misleading_variables():
        if name not in own:
            environment.pop(name, None)
    environment |= app_service_variables(base_url(*listener.getsockname()), secret)
    # The server starts while the command does: until then, the system queues connections.
    serve = partial(_serve, args, listener, secret, identity, resources)
    return _run_in_foreground(command, environment, serve, files)


def _run_in_foreground(
    command: list[str],
    environment: dict[str, str],
    serve: Callable[[threading.Event], None] | None = None,
    files: Sequence[TokenFile] = (),
) -> int:
    """Run ``command`` and, in threads, ``serve``; return the command's exit status.

    In the meantime, ``files`` are kept current. Each thread sets an event once it has imported its
    modules: if the interpreter ended during the import of an extension module, it could crash.
    """
    works = [serve] if serve is not None else []
    works += [partial(_keep_current, files)] if files else []
    events = [threading.Event() for _ in works]
    with new_child() as child:
        try:
            child.start(command, environment)
        except OSError as error:
            return _cannot_run(command, error)
        for work, has_started in zip(works, events, strict=True):
            _start(partial(work, has_started), has_started)
        status = child.wait()
        for has_started in events:
            has_started.wait(_START_SECONDS)
        return status


def _start(work: Callable[[], None], has_started: threading.Event) -> None:
    """Start ``work`` in a thread; if that fails, wait for the command without it."""
    try:
        start_thread(work)
    except RuntimeError as error:
        has_started.set()
        print_notice(
            f"warning: no thread can be started ({error}), so the command's token files are not "
            "kept current, and its token endpoint does not respond"
        )


def _keep_current(files: Sequence[TokenFile], has_started: threading.Event) -> None:
    files[0].preload()
    has_started.set()
    for file in files[1:]:  # in threads of their own: one that waits must not delay the others
        start_thread(file.keep_current)
    files[0].keep_current()


def _replace_process(command: list[str], environment: dict[str, str]) -> int:
    """Replace this process by ``command``; return the exit status if that fails."""
    try:
        replace_process(command, environment)
    except OSError as error:
        return _cannot_run(command, error)


def _cannot_run(command: list[str], error: OSError) -> int:
    print_error(f"{sanitize(command[0])} cannot be run: {error.strerror}")
    return exit_status_of(error)


def _serve(
    args: argparse.Namespace,
    listener: socket.socket,
    secret: Secret,
    identity: Identity | None,
    resources: list[str] | None,
    has_started: threading.Event,
) -> None:
    try:
        from .._endpoint.policy import AccessPolicy

        with suppress(ValueError):
            token_client(args, identity or SYSTEM_ASSIGNED, preload=True)  # for the first request
        policy = AccessPolicy(secret, identity=identity, resources=resources)
        server = token_server(args, [listener], policy)
    finally:
        has_started.set()
    server.serve()

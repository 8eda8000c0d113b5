"""A Key Vault with secrets, which verifies the tokens of its clients."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from .._messages import Response, json_response
from .._state.tokens import RefusedTokenError, RevokedTokenError
from .._state.vault import MAX_VALUE, SECRET_NAME, SecretExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._messages import Request
    from .._state.fault import Fault
    from .._state.state import EmulatorState
    from .._state.vault import DeletedSecret, SecretVersion

AUDIENCE = "https://vault.azure.net"
PATH, DELETED_PATH = "/secrets", "/deletedsecrets"
_RECOVERABLE_DAYS = 90
_RECOVERY = {"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": _RECOVERABLE_DAYS}
_MAX_PAGE = 25


class _VaultError(Exception):
    """An error response."""

    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.error: dict[str, object] = {"code": code, "message": message}
        if inner:
            self.error["innererror"] = {"code": inner}


class KeyVaultEndpoint:
    """The API of a vault's secrets; ``url`` is the vault's URL."""

    def __init__(self, state: EmulatorState, url: str) -> None:
        self._state = state
        self._secrets = state.secrets
        self._base = url
        # By method, first part of the path and number of the following parts.
        self._operations: dict[tuple[str, str, int], Callable[..., Response]] = {
            ("GET", PATH, 0): self._list,
            ("GET", PATH, 1): self._get,
            ("GET", PATH, 2): self._get_version,
            ("PUT", PATH, 1): self._set,
            ("DELETE", PATH, 1): self._delete,
            ("GET", DELETED_PATH, 0): self._list_deleted,
            ("GET", DELETED_PATH, 1): self._get_deleted,
            ("DELETE", DELETED_PATH, 1): self._purge,
            ("POST", DELETED_PATH, 2): self._recover,
        }

    def __call__(self, request: Request, _fault: Fault | None) -> Response:
        challenge = self._authorize(request)
        if challenge is not None:
            return challenge
        _, first, *rest = request.path.split("/")
        try:
            return self._operation(request, first, len(rest))(request, *rest)
        except KeyError:
            message = f"A secret with (name/id) {'/'.join(rest)[:127]} was not found in this "
            return _response(_VaultError(404, "SecretNotFound", message + "key vault."))
        except _VaultError as error:
            return _response(error)

    def _operation(self, request: Request, first: str, number: int) -> Callable[..., Response]:
        if not request.parameter("api-version"):
            raise _VaultError(400, "BadParameter", "api-version must be specified")
        operation = self._operations.get((request.method, f"/{first}", number))
        if operation is None:
            message = "Method or path is not supported by the emulator."
            raise _VaultError(405, "MethodNotAllowed", message)
        return operation

    def _authorize(self, request: Request) -> Response | None:
        token = request.bearer_token()
        if token is None:
            return self._challenge("AKV10000: Request is missing a Bearer or PoP token.")
        try:
            self._state.tokens.check(token, AUDIENCE, self._state.machine.tenant_id)
        except RevokedTokenError as error:
            return self._challenge(str(error), self._claims())
        except RefusedTokenError as error:
            return self._challenge(str(error))
        return None

    def _challenge(self, message: str, claims: str | None = None) -> Response:
        tenant = self._state.machine.tenant_id
        challenge = (
            f'Bearer authorization="https://login.windows.net/{tenant}", resource="{AUDIENCE}"'
        )
        if claims is not None:
            challenge += f', error="insufficient_claims", claims="{claims}"'
        error = _VaultError(401, "Unauthorized", message)
        return _response(error, {"WWW-Authenticate": challenge})

    def _claims(self) -> str:
        # Continuous access evaluation requires a token that was issued from now on.
        now = str(int(self._state.clock.time()))
        claims = {"access_token": {"nbf": {"essential": True, "value": now}}}
        return base64.b64encode(json.dumps(claims).encode()).decode()

    def _list(self, request: Request) -> Response:
        names = sorted(self._secrets, key=str.lower)
        latest = [self._secrets.versions(name)[-1] for name in names]
        return self._page(request, [self._item(each, with_version=False) for each in latest])

    def _list_deleted(self, request: Request) -> Response:
        return self._page(request, [self._deleted(each) for each in self._secrets.deleted.values()])

    def _page(self, request: Request, items: list[dict[str, object]]) -> Response:
        size, start = request.parameter("maxresults") or "", request.parameter("$skiptoken") or ""
        first = int(start) if _is_number(start) else 0
        end = first + (min(int(size), _MAX_PAGE) if _is_number(size) and int(size) else _MAX_PAGE)
        version, more = request.parameter("api-version"), None
        if end < len(items):
            query = f"api-version={version}&$skiptoken={end}&maxresults={end - first}"
            more = f"{self._base}{request.path}?{query}"
        return json_response(200, {"value": items[first:end], "nextLink": more})

    def _get(self, _: Request, name: str) -> Response:
        return self._bundle(self._secrets.versions(name)[-1])

    def _get_version(self, request: Request, name: str, version: str) -> Response:
        versions = self._secrets.versions(name)
        if version == "versions":
            return self._page(request, [self._item(each) for each in versions])
        by_id = {each.id: each for each in versions}
        return self._bundle(by_id[version])

    def _set(self, request: Request, name: str) -> Response:
        if not SECRET_NAME.fullmatch(name):
            message = f"The request URI contains an invalid name: {name[:127]}"
            raise _VaultError(400, "BadParameter", message)
        value, enabled, details = _content_of(request)
        try:
            version = self._secrets.set(name, value, enabled=enabled, details=details)
        except SecretExistsError:
            message = (
                f"Secret {name} is currently in a deleted but recoverable state, and its name "
                "cannot be reused; in this state, the secret can only be recovered or purged."
            )
            inner = "ObjectIsDeletedButRecoverable"
            raise _VaultError(409, "Conflict", message, inner) from None
        return json_response(200, {"value": value, **self._item(version)})

    def _delete(self, _: Request, name: str) -> Response:
        return json_response(200, self._deleted(self._secrets.delete(name)))

    def _get_deleted(self, _: Request, name: str) -> Response:
        return json_response(200, self._deleted(self._secrets.deleted[name.lower()]))

    def _purge(self, _: Request, name: str) -> Response:
        del self._secrets.deleted[name.lower()]
        return Response(204)

    def _recover(self, _: Request, name: str, action: str) -> Response:
        if action != "recover":
            raise KeyError(action)
        return json_response(200, self._item(self._secrets.recover(name)))

    def _bundle(self, version: SecretVersion) -> Response:
        if not version.enabled:
            message = "Operation get is not allowed on a disabled secret."
            raise _VaultError(403, "Forbidden", message, "SecretDisabled")
        return json_response(200, {"value": version.value, **self._item(version)})

    def _item(self, version: SecretVersion, *, with_version: bool = True) -> dict[str, object]:
        details = dict(version.details)
        attributes: dict[str, object] = {
            "enabled": version.enabled,
            "created": version.created,
            "updated": version.created,
            **_RECOVERY,
        }
        attributes.update((name, details.pop(name)) for name in ("nbf", "exp") if name in details)
        path = f"{version.name}/{version.id}" if with_version else version.name
        return {
            "id": f"{self._base}{PATH}/{path}",
            "attributes": attributes,
            **details,
        }

    def _deleted(self, secret: DeletedSecret) -> dict[str, object]:
        return {
            "recoveryId": f"{self._base}{DELETED_PATH}/{secret[-1].name}",
            "deletedDate": secret.deleted,
            "scheduledPurgeDate": secret.deleted + _RECOVERABLE_DAYS * 86400,
            **self._item(secret[-1]),
        }


def _content_of(request: Request) -> tuple[str, bool, dict[str, object]]:
    """Return value, state and other attributes of a secret in a request."""
    try:
        body: Any = json.loads(request.body)
        value, attributes = body["value"], body.get("attributes") or {}
        details = {name: body[name] for name in ("contentType", "tags") if body.get(name)}
        times = {name: attributes[name] for name in ("nbf", "exp") if attributes.get(name)}
        enabled = attributes.get("enabled") is not False
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        message = "The request body is not a secret with a value."
        raise _VaultError(400, "BadParameter", message) from None
    if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > MAX_VALUE:
        message = f"The value of a secret must be a string of at most {MAX_VALUE} bytes."
        raise _VaultError(400, "BadParameter", message)
    return value, enabled, {**details, **times}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9


def _response(error: _VaultError, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(error.status, {"error": error.error}, headers)

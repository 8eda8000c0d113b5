"""The part of the API that changes the clock, settings, identities and secrets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from .._clock import parse_time
from .._field_types import validate_fields
from .._machine.identities import IdentitySpec, validate_identities
from .._messages import json_response
from .._state.vault import MAX_VALUE, SECRET_NAME, SecretExistsError
from .api_request import ApiError, build_from_json, required
from .text import rfc3339_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._machine.identities import Identity
    from .._messages import Request, Response
    from .._state.state import EmulatorState, RunningSettings


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A change of the clock; ``time`` is RFC 3339 or in Unix seconds, ``advance`` in seconds."""

    advance: float | None = None
    time: float | str | None = None
    stopped: bool | None = None

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.advance is not None and self.time is not None:
            raise ValueError("advance and time exclude each other.")
        if self.advance is None and self.time is None and self.stopped is None:
            raise ValueError("A change of the clock needs advance, time or stopped.")

    def seconds(self, now: float) -> float:
        """Return how far the clock moves; ValueError if the time is not valid."""
        if self.time is None:
            return self.advance or 0.0
        try:
            return (parse_time(self.time) if isinstance(self.time, str) else self.time) - now
        except ValueError:
            raise ValueError(
                f"time must be like 2027-01-01T00:00:00Z, or in Unix seconds, not {self.time!r}."
            ) from None


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """A change of settings; those that are None are kept."""

    limits: bool | None = None
    latency: float | None = None
    token_lifetime: int | None = None

    def __post_init__(self) -> None:
        validate_fields(self)
        if self.latency is not None and self.latency < 0:
            raise ValueError(f"latency cannot be negative: {self.latency}.")
        if self.token_lifetime is not None and self.token_lifetime <= 0:
            raise ValueError(f"token_lifetime must be above zero, not {self.token_lifetime}.")

    def applied_to(self, settings: RunningSettings) -> RunningSettings:
        """Return the changed settings."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return settings._replace(**given)


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """A secret of the Key Vault, with its new value."""

    name: str = ""
    value: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        validate_fields(self)
        if not SECRET_NAME.fullmatch(self.name):
            raise ValueError("name must be 1 to 127 letters, digits or hyphens.")
        if len(self.value.encode()) > MAX_VALUE:
            raise ValueError(f"value must have at most {MAX_VALUE} bytes.")


class Changes:
    """Changes of a running emulator; ValueError if one is not valid, LookupError if too late."""

    def __init__(self, state: EmulatorState) -> None:
        self._state = state

    def change_clock(self, change: ClockChange) -> None:
        self._state.advance_clock(change.seconds(self._state.clock.time()))
        if change.stopped is not None:
            self._state.stop_clock(stopped=change.stopped)

    def change_settings(self, change: SettingsChange) -> None:
        self._state.apply(change.applied_to(self._state.settings()))

    def add_identity(self, spec: IdentitySpec) -> Identity:
        added = spec.identity()
        self._state.set_identities(validate_identities([*self._state.identities, added]))
        return added

    def remove_identity(self, client_id: str) -> None:
        known = self._state.identities
        kept = tuple(each for each in known if each.client_id.lower() != client_id.lower())
        if len(kept) == len(known):
            raise LookupError(f"There is no identity with the client_id {client_id!r}.")
        self._state.set_identities(kept)

    def set_secret(self, spec: SecretSpec) -> str:
        """Set a secret and return the id of the new version."""
        with self._state.lock:
            try:
                return self._state.secrets.set(spec.name, spec.value).id
            except SecretExistsError:
                raise ValueError(
                    f"The name of the deleted secret {spec.name!r} is still in use: purge it first."
                ) from None

    def delete_secret(self, name: str) -> None:
        """Delete a secret for good."""
        with self._state.lock:
            if name not in self._state.secrets:
                raise LookupError(f"There is no secret with the name {name!r}.")
            del self._state.secrets[name]


class ChangesApi:
    """The handlers of the API's requests for changes."""

    def __init__(self, state: EmulatorState) -> None:
        self._state = state
        self._changes = Changes(state)

    def handlers(self) -> dict[tuple[str, str], Callable[[Request], Response]]:
        """Return the handlers by method and path."""
        return {
            ("GET", "/api/clock"): self._show_clock,
            ("POST", "/api/clock"): self._change_clock,
            ("GET", "/api/settings"): self._show_settings,
            ("PATCH", "/api/settings"): self._change_settings,
            ("GET", "/api/identities"): self._list_identities,
            ("POST", "/api/identities"): self._add_identity,
            ("DELETE", "/api/identities"): self._remove_identity,
            ("GET", "/api/secrets"): self._list_secrets,
            ("POST", "/api/secrets"): self._set_secret,
            ("DELETE", "/api/secrets"): self._delete_secret,
        }

    def _show_clock(self, _: Request) -> Response:
        clock = self._state.clock
        now = clock.time()
        document = {"time": now, "text": rfc3339_time(now), "stopped": clock.is_stopped}
        return json_response(200, document)

    def _change_clock(self, request: Request) -> Response:
        change = build_from_json(ClockChange, request)
        try:
            self._changes.change_clock(change)
        except ValueError as error:
            field = "advance" if change.time is None else "time"
            raise ApiError(400, str(error), "invalid", field) from None
        return self._show_clock(request)

    def _show_settings(self, _: Request) -> Response:
        return json_response(200, self._state.settings()._asdict())

    def _change_settings(self, request: Request) -> Response:
        self._changes.change_settings(build_from_json(SettingsChange, request))
        return self._show_settings(request)

    def _list_identities(self, _: Request) -> Response:
        return json_response(200, {"identities": [*map(asdict, self._state.identities)]})

    def _add_identity(self, request: Request) -> Response:
        spec = build_from_json(IdentitySpec, request)
        try:
            return json_response(201, asdict(self._changes.add_identity(spec)))
        except ValueError as error:
            raise ApiError(409, str(error)) from None

    def _remove_identity(self, request: Request) -> Response:
        return remove(request, "client_id", self._changes.remove_identity)

    def _list_secrets(self, _: Request) -> Response:
        with self._state.lock:
            found = [self._state.secrets.versions(name) for name in self._state.secrets]
        listed = [
            {"name": each[0].name, "version": each[-1].id, "created": each[-1].created}
            for each in found
        ]
        return json_response(200, {"secrets": listed})

    def _set_secret(self, request: Request) -> Response:
        spec = build_from_json(SecretSpec, request)
        try:
            return json_response(
                201, {"name": spec.name, "version": self._changes.set_secret(spec)}
            )
        except ValueError as error:
            raise ApiError(409, str(error), field="name") from None

    def _delete_secret(self, request: Request) -> Response:
        return remove(request, "name", self._changes.delete_secret)


def remove(request: Request, parameter: str, action: Callable[[str], None]) -> Response:
    """Remove what a parameter names; ApiError if the action raises LookupError."""
    try:
        action(required(request, parameter))
    except LookupError as error:
        raise ApiError(404, error.args[0], field=parameter) from None
    return json_response(200, {})

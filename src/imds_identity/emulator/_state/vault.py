"""The secrets of the Key Vault, with their versions, and those that were deleted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._clock import Clock

SECRET_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
MAX_VALUE = 25 * 1024


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """One version of a secret; ``created`` is in Unix seconds."""

    name: str
    id: str
    value: str = field(repr=False)
    created: int
    enabled: bool = True
    details: Mapping[str, object] = field(default_factory=dict)  # nbf, exp, contentType, tags


class DeletedSecret(list[SecretVersion]):
    """The versions of a deleted secret; ``deleted`` is in Unix seconds."""

    deleted = 0


class SecretExistsError(Exception):
    """A secret with this name is deleted but recoverable, so that no other can be created."""


class Secrets(MutableMapping[str, str]):
    """The values of the latest versions by name; assigning a value creates a version.

    Names are case-insensitive, and a secret keeps the spelling of its first version.
    """

    def __init__(self, clock: Clock, values: Mapping[str, str]) -> None:
        self._clock = clock
        self._first = dict(values)
        self._versions: dict[str, list[SecretVersion]] = {}
        self.deleted: dict[str, DeletedSecret] = {}  # by name in lower case
        self.reset()

    def reset(self) -> None:
        """Remove all secrets, and set the initial ones again."""
        self._count = 0
        self._versions.clear()
        self.deleted.clear()
        self.update(self._first)

    def __getitem__(self, name: str) -> str:
        return self.versions(name)[-1].value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)
        self.deleted.pop(name.lower())

    def __iter__(self) -> Iterator[str]:
        return iter([versions[0].name for versions in list(self._versions.values())])

    def __len__(self) -> int:
        return len(self._versions)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self)})"  # without values

    def versions(self, name: str) -> list[SecretVersion]:
        """Return the versions of a secret, oldest first; KeyError if there is none."""
        return self._versions[name.lower()]

    def set(
        self,
        name: str,
        value: str,
        *,
        enabled: bool = True,
        details: Mapping[str, object] | None = None,
    ) -> SecretVersion:
        """Add a version; SecretExistsError if a deleted secret has the name."""
        key = name.lower()
        if key in self.deleted:
            raise SecretExistsError(name)
        versions = self._versions.setdefault(key, [])
        own_name = versions[0].name if versions else name
        self._count += 1
        # A hash of the value would reveal the value.
        number = hashlib.sha256(f"{self._count}:{key}".encode()).hexdigest()[:32]
        now = int(self._clock.time())
        version = SecretVersion(own_name, number, value, now, enabled, details or {})
        versions.append(version)
        return version

    def delete(self, name: str) -> DeletedSecret:
        """Delete a secret so that it can be recovered; KeyError if there is none."""
        deleted = DeletedSecret(self._versions.pop(name.lower()))
        deleted.deleted = int(self._clock.time())
        self.deleted[name.lower()] = deleted
        return deleted

    def recover(self, name: str) -> SecretVersion:
        """Recover a deleted secret with all versions; KeyError if there is none."""
        deleted = self.deleted.pop(name.lower())
        self._versions[name.lower()] = list(deleted)
        return deleted[-1]

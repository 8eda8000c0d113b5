"""The managed identities of the emulated machine."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from .._field_types import validate_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The namespace of the UUIDs that are generated from names.
_NAMESPACE = uuid.UUID("6d1f9a54-3f0b-4d0c-9f0e-1d5f3f6f7a10")
DEFAULT_SUBSCRIPTION = "8d10da13-8125-4ba9-a717-bf7490507b3d"
DEFAULT_RESOURCE_GROUP = "emulated-group"


class IdentityNotFoundError(LookupError):
    """The machine has no such identity, or several without a selector to choose one."""


@dataclass(frozen=True, slots=True)
class SystemAssigned:
    """The system-assigned identity of a machine.

    Attributes:
        client_id: the application id, a GUID.
        object_id: the service principal's object id, a GUID.
    """

    client_id: str = "5e29463d-71da-4fe0-8e69-999b57db23b0"
    object_id: str = "b2b4bd1d-24ba-4d2a-b9d2-4f1f4a2c3f5e"


@dataclass(frozen=True, slots=True)
class UserAssigned:
    """A user-assigned identity.

    Attributes:
        client_id: the application id, a GUID.
        object_id: the service principal's object id, a GUID.
        resource_id: the ARM resource id.
    """

    client_id: str
    object_id: str
    resource_id: str

    @classmethod
    def named(
        cls,
        name: str,
        *,
        subscription_id: str = DEFAULT_SUBSCRIPTION,
        resource_group: str = DEFAULT_RESOURCE_GROUP,
    ) -> UserAssigned:
        """Return an identity whose ids are generated from its name.

        Args:
            name: the name of the identity's resource.
            subscription_id: the resource's subscription.
            resource_group: the resource's resource group.

        Returns:
            The identity; the same ids for the same arguments.
        """
        return cls(
            client_id=str(uuid.uuid5(_NAMESPACE, f"client:{name}")),
            object_id=str(uuid.uuid5(_NAMESPACE, f"object:{name}")),
            resource_id=(
                f"/subscriptions/{subscription_id}/resourcegroups/{resource_group}/providers/"
                f"Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            ),
        )


Identity = SystemAssigned | UserAssigned


@dataclass(frozen=True, slots=True)
class IdentitySpec:
    """A description of an identity, in a file or a request; ValueError if it is not valid."""

    kind: str = "user-assigned"
    name: str | None = None  # all ids are generated from it, unless they are given
    client_id: str | None = None
    object_id: str | None = None
    resource_id: str | None = None

    def __post_init__(self) -> None:
        validate_fields(self)
        self.identity()

    def identity(self) -> Identity:
        """Return the identity."""
        given = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        ids = {name: value for name, value in given.items() if value is not None}
        if self.kind == "system-assigned":
            if self.name is not None or self.resource_id is not None:
                raise ValueError("a system-assigned identity cannot have a name or resource_id.")
            return SystemAssigned(**ids)
        if self.kind != "user-assigned":
            raise ValueError(f"kind must be system-assigned or user-assigned, not {self.kind!r}.")
        if self.name is not None:
            return replace(UserAssigned.named(self.name), **ids)
        if len(ids) < len(given):
            missing = ", ".join(name for name in given if name not in ids)
            raise ValueError(f"a user-assigned identity needs a name or {missing}.")
        return UserAssigned(**ids)


DEFAULT_SYSTEM_ASSIGNED = SystemAssigned()
DEFAULT_USER_ASSIGNED = UserAssigned.named("emulated-identity")
DEFAULT_IDENTITIES: tuple[Identity, ...] = (DEFAULT_SYSTEM_ASSIGNED, DEFAULT_USER_ASSIGNED)


@dataclass(frozen=True, slots=True)
class Application:
    """An application that trusts a managed identity: its federated credential has this subject."""

    client_id: str
    identity: Identity
    tenant_id: str = ""  # of its service principal; by default that of the machine

    @property
    def object_id(self) -> str:
        """The object id of its service principal, which differs between tenants."""
        name = f"application:{self.client_id}@{self.tenant_id}".lower()
        return str(uuid.uuid5(_NAMESPACE, name))


def parse_applications(
    texts: Iterable[str], identities: Sequence[Identity]
) -> tuple[Application, ...]:
    """Parse ``CLIENT_ID[@TENANT][=IDENTITY]``; ValueError if there is no such identity.

    The default is the first user-assigned identity: Entra documents only these.
    """
    found = {}
    for text in texts:
        account, _, name = text.partition("=")
        client_id, _, tenant_id = account.partition("@")
        trusted = next((each for each in identities if _is_named(each, name)), None)
        if not client_id or trusted is None:
            raise ValueError(
                f"applications: {text!r} is not CLIENT_ID[@TENANT][=IDENTITY] with the name, "
                "client id or object id of an identity of this machine."
            )
        if account.lower() in found:
            raise ValueError(f"applications: {account} is given twice.")
        found[account.lower()] = Application(client_id, trusted, tenant_id)
    return tuple(found.values())


def _is_named(identity: Identity, name: str) -> bool:
    if not name:
        return isinstance(identity, UserAssigned)
    resource_id = getattr(identity, "resource_id", "").lower()
    ids = (identity.client_id, identity.object_id, resource_id, resource_id.rpartition("/")[2])
    return name.lower() in map(str.lower, ids)


@dataclass(frozen=True, slots=True)
class Selector:
    """The query parameter that selects an identity, and the attribute and value to compare."""

    parameter: str
    attribute: str
    value: str


def validate_identities(identities: Iterable[Identity]) -> tuple[Identity, ...]:
    """Return the identities; ValueError if they cannot belong to one machine."""
    found = tuple(identities)
    if sum(isinstance(identity, SystemAssigned) for identity in found) > 1:
        raise ValueError("A machine has at most one system-assigned identity, not two.")
    seen: set[tuple[str, str]] = set()
    for identity in found:
        for attribute in ("client_id", "object_id", "resource_id"):
            value = getattr(identity, attribute, None)
            if value is None:
                continue
            if not value or not isinstance(value, str):
                raise ValueError(f"An identity's {attribute} is empty.")
            if (attribute, value.lower()) in seen:
                raise ValueError(f"Two identities have the same {attribute}, {value}.")
            seen.add((attribute, value.lower()))
    return found


def find_identity(identities: Sequence[Identity], selector: Selector | None) -> Identity:
    """Return the selected identity; IdentityNotFoundError if there is none.

    Without a selector it is the system-assigned identity, else the only user-assigned one.
    """
    if selector is not None:
        for identity in identities:
            if getattr(identity, selector.attribute, "").lower() == selector.value.lower():
                return identity
        raise IdentityNotFoundError("Identity not found")
    for identity in identities:
        if isinstance(identity, SystemAssigned):
            return identity
    if len(identities) == 1:
        return identities[0]
    if not identities:
        raise IdentityNotFoundError("Identity not found")
    raise IdentityNotFoundError(
        "Multiple user assigned identities exist, please specify the clientId / resourceId of the "
        "identity in the token request"
    )

"""The store that keeps keys and certificates across restarts."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The names of the files of certificates that clients must trust.
ATTESTED_CA = "attested-ca"
ATTESTED_ROOT = "attested-root"
VAULT_CA = "key-vault-ca"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class KeyStore:
    """A directory of PEM files; without a directory, nothing is kept."""

    directory: Path | None = None

    def prepare(self) -> None:
        """Create the directory; OSError if it cannot be created or written to."""
        if self.directory is not None:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.directory).close()

    def load_or_create(self, name: str, make: Callable[[], bytes], mode: int = 0o644) -> bytes:
        """Return the content of a file; create the file if it is missing."""
        if self.directory is None:
            return make()
        path = self.directory / name
        if not path.exists():
            data = make()
            descriptor, temporary = tempfile.mkstemp(dir=self.directory)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(temporary, mode)
            _publish(temporary, path)
        return path.read_bytes()

    def load_or_create_key(self, name: str, make: Callable[[], PrivateKey]) -> PrivateKey:
        """Return a private key from the store, or a new one; ValueError if the file is damaged."""
        data = self.load_or_create(f"{name}.key", lambda: pem_of_key(make()), 0o600)
        try:
            key = serialization.load_pem_private_key(data, None)
        except ValueError:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError(  # noqa: TRY004 - the file's content is wrong, not an argument
                f"state: {name}.key in {self.directory} is not a private key; remove it."
            )
        return key


def _publish(temporary: str, path: Path) -> None:
    """Give a file its name, unless another emulator has created the file in the meantime."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a volume without hard links, as in many virtual machines
        os.replace(temporary, path)
        return
    os.unlink(temporary)


def pem_of_key(key: PrivateKey) -> bytes:
    """Return a private key in PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""Where keys and certificates are kept across restarts, if anywhere."""

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

# Names of files whose certificates clients are told to trust.
ATTESTED_CA = "attested-ca"
ATTESTED_ROOT = "attested-root"
VAULT_CA = "key-vault-ca"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class KeyStore:
    """A directory of keys, which only their owner may read, and of certificates, in PEM.

    Attributes:
        directory: the directory; with None nothing is kept.
    """

    directory: Path | None = None

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            OSError: if it cannot be made or written.
        """
        if self.directory is not None:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.directory).close()

    def kept(self, name: str, make: Callable[[], bytes], mode: int = 0o644) -> bytes:
        """What was kept under a name; made and kept if nothing was.

        Args:
            name: the name of its file.
            make: makes it anew.
            mode: who may read the file.
        """
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

    def kept_key(self, name: str, make: Callable[[], PrivateKey]) -> PrivateKey:
        """The private key that was kept under a name; made and kept if none was.

        Raises:
            ValueError: if what was kept is no such key.
        """
        data = self.kept(f"{name}.key", lambda: pem_of_key(make()), 0o600)
        try:
            key = serialization.load_pem_private_key(data, None)
        except ValueError:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            where = f"{name}.key in {self.directory}"
            raise ValueError(  # noqa: TRY004 - what the file holds is wrong, no argument
                f"state: {where} is no private key; remove it."
            )
        return key


def _publish(temporary: str, path: Path) -> None:
    """Give a file its name; another emulator's that has it already counts for both."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a volume without hard links, as of many virtual machines
        os.replace(temporary, path)
        return
    os.unlink(temporary)


def pem_of_key(key: PrivateKey) -> bytes:
    """A private key as PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

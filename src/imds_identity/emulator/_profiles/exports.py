"""Shell lines that export the environment variables for clients of an emulator."""

from __future__ import annotations

import shlex

from .._services.token import TOKEN_PATH
from .profiles import MISLEADING_VARIABLES


def export_lines(
    environment: dict[str, str], endpoint: str, vault: tuple[str, str | None] | None = None
) -> list[str]:
    """Return lines for a POSIX shell; ``vault`` is the Key Vault's URL and CA file."""
    unset = [name for name in MISLEADING_VARIABLES if name not in environment]
    lines = [f"unset {' '.join(unset)}"]
    lines += [_export(name, value) for name, value in environment.items()]
    if "AZURE_POD_IDENTITY_AUTHORITY_HOST" in environment:
        # GDAL reads the first of these, object_store and obstore the second.
        lines += [
            _export("CPL_AZURE_VM_API_ROOT_URL", endpoint),
            _export("AZURE_MSI_ENDPOINT", endpoint + TOKEN_PATH),
        ]
    url, ca_file = vault or (None, None)
    if url is not None:
        lines.append(_export("IMDS_EMULATOR_KEY_VAULT_URL", url))
    if ca_file is not None:
        lines.append(_export("IMDS_EMULATOR_KEY_VAULT_CA_FILE", ca_file))
    return lines


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"

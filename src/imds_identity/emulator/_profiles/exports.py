"""The environment variables for clients of an emulator, in the syntax of a shell or as JSON."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from .._services.token import TOKEN_PATH
from .profiles import MISLEADING_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

# PowerShell also takes typographic apostrophes for quotation marks.
_POWERSHELL_QUOTE = re.compile("['\u2018\u2019\u201a\u201b]")


def _quoted_for_fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quoted_for_powershell(text: str) -> str:
    return f"'{_POWERSHELL_QUOTE.sub(lambda found: found[0] * 2, text)}'"


_FORMATS = {
    "sh": ("unset {0}", "export {0}={1}", shlex.quote),
    "fish": ("set -e {0}", "set -gx {0} {1}", _quoted_for_fish),
    "powershell": (
        "Remove-Item Env:{0} -ErrorAction Ignore",
        "$env:{0} = {1}",
        _quoted_for_powershell,
    ),
}
FORMATS = (*_FORMATS, "json")


def client_variables(
    environment: Mapping[str, str], endpoint: str, vault: tuple[str, str | None] | None = None
) -> dict[str, str | None]:
    """Return variables to set, and with None to unset; ``vault`` is the vault's URL and CA file."""
    variables: dict[str, str | None] = dict.fromkeys(
        name for name in MISLEADING_VARIABLES if name not in environment
    )
    variables.update(environment)
    if "AZURE_POD_IDENTITY_AUTHORITY_HOST" in environment:
        # GDAL reads the first of these, object_store and obstore the second.
        variables["CPL_AZURE_VM_API_ROOT_URL"] = endpoint
        variables["AZURE_MSI_ENDPOINT"] = endpoint + TOKEN_PATH
    url, ca_file = vault or (None, None)
    if url is not None:
        variables["IMDS_EMULATOR_KEY_VAULT_URL"] = url
    if ca_file is not None:
        variables["IMDS_EMULATOR_KEY_VAULT_CA_FILE"] = ca_file
    return variables


def format_variables(variables: Mapping[str, str | None], form: str = "sh") -> list[str]:
    """Return lines in one of the formats; in JSON, a variable to unset is null."""
    if form == "json":
        return json.dumps(variables, indent=2).splitlines()
    unset, export, quote = _FORMATS[form]
    names = [name for name, value in variables.items() if value is None]
    lines = [unset.format(" ".join(names))] if form == "sh" else map(unset.format, names)
    given = ((name, value) for name, value in variables.items() if value is not None)
    return [*lines, *(export.format(name, quote(value)) for name, value in given)]

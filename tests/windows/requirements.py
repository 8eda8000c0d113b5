"""Print the requirements of the tests on Windows, from the metadata of the installed project.

pip evaluates markers for the Python that runs it, so this script adds what only Windows needs.
"""

from __future__ import annotations

from importlib.metadata import requires

_EXCLUDED = ("cryptography", "imds-identity", "mypy", "ruff", "types-")
# cryptography 43 and later need a DLL that wine 8 lacks.
_WINDOWS_ONLY = ("colorama", "tomli", "exceptiongroup", "cryptography<43")

declared = [line for line in requires("imds-identity") or () if "extra == 'docs'" not in line]
names = {line.partition(";")[0].strip() for line in declared}
needed = {name for name in names if not name.startswith(_EXCLUDED)}
print(*sorted(needed.union(_WINDOWS_ONLY)), sep="\n")

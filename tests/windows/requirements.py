"""Prints what the tests need under Windows, of what the installed project and its extras declare.

pip evaluates markers for the Python that runs it, so what only Windows needs is named here.
"""

from __future__ import annotations

from importlib.metadata import requires

_NOT_NEEDED = ("imds-identity", "mypy", "ruff", "types-")
# cryptography 43 and later want a DLL that wine 8 lacks.
_OF_WINDOWS = ("colorama", "tomli", "exceptiongroup", "cryptography<43")

declared = [line for line in requires("imds-identity") or () if "extra == 'docs'" not in line]
names = {line.partition(";")[0].strip() for line in declared}
needed = {name for name in names if not name.startswith(_NOT_NEEDED)}
print(*sorted(needed.union(_OF_WINDOWS)), sep="\n")

"""Late imports that forks and signal handlers cannot break, and errors for missing packages.

A module that another thread is importing stays locked in a forked child. A signal handler that
raises during an import, which can happen in the main thread only, can leave it locked, too.
"""

from __future__ import annotations

import threading

from .fork import uninterrupted
from .threads import run_in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_IMPORT_SECONDS = 60.0
_done: set[object] = set()


def run_imports(key: object, imports: Callable[[], object]) -> None:
    """Call ``imports``, a function of import statements, once for each ``key``.

    Raise ImportError if a module is missing.
    """
    if key in _done:
        return
    if threading.current_thread() is threading.main_thread():
        run_in_thread(lambda: uninterrupted(imports), _IMPORT_SECONDS)
        imports()  # finds the modules, or raises what the thread dropped
    else:
        uninterrupted(imports)
    _done.add(key)


def not_installed(package: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Return the error for a missing package, which ``purpose`` needs and ``extra`` installs."""
    return ModuleNotFoundError(
        f"{purpose} needs {package}: pip install 'imds-identity[{extra}]'", name=package
    )

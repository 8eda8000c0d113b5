"""Optional dependencies."""

from __future__ import annotations


def not_installed(package: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Return the error for a missing package, which ``purpose`` needs and ``extra`` installs."""
    return ModuleNotFoundError(
        f"{purpose} needs {package}: pip install 'imds-identity[{extra}]'", name=package
    )

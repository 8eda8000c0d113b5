"""Packages that only some users install."""

from __future__ import annotations


def not_installed(package: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """What to raise where a package is not there: it says what to install.

    Args:
        package: what is imported.
        extra: the extra of this distribution that has it.
        purpose: what it is needed for.
    """
    return ModuleNotFoundError(
        f"{purpose} needs {package}: pip install 'imds-identity[{extra}]'", name=package
    )

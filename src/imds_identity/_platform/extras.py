"""Optional dependencies."""

from __future__ import annotations


def not_installed(package: str, extra: str, purpose: str) -> ModuleNotFoundError:
    """Return an error that says which extra of this distribution installs ``package``.

    Args:
        package: the missing package.
        extra: the name of the extra.
        purpose: the feature that needs the package, the subject of the message.
    """
    return ModuleNotFoundError(
        f"{purpose} needs {package}: pip install 'imds-identity[{extra}]'", name=package
    )

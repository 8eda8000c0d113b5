"""Who may know whom: the arrows that keep the rooms apart, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import imds_identity

PACKAGE = Path(imds_identity.__file__).parent
FACES = {"_faces", "aio", "auth", "cli", "credential", "errors"}
ENGINE = {"_core", "_engine", "_machine", "_sources", "_wire"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Absolute names of all that a module imports, wherever it does so."""
    found: set[str] = set()
    package = ("imds_identity", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


def rooms_known(path: Path) -> set[str]:
    return {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("imds_identity.") and name.split(".")[1] != room_of(path)
    }


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    room, known = room_of(path), rooms_known(path)
    if room in ENGINE:
        assert not known & (FACES | {"emulator"})
        assert not {name for name in imports(path) if name.startswith("azure")}
    if room == "emulator":
        assert not known & (FACES | ENGINE)
    if room not in {"cli", "emulator"}:
        assert "emulator" not in known
        assert "cli" not in known - ({"cli"} if room == "__main__" else set())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_time_and_the_environment_are_read_in_one_place_each(path: Path) -> None:
    if room_of(path) in {"emulator", "cli"}:
        return
    if path.name != "clock.py":
        assert "time" not in imports(path)
    if path.name != "detect.py":
        attributes = {
            n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)
        }
        assert not attributes & {"environ", "getenv"}


@pytest.mark.parametrize(
    "statement",
    ["import imds_identity", "from imds_identity import ManagedIdentityCredential as M; M()"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement: str) -> None:
    heavy = ("azure", "requests", "msal", "filelock", "asyncio", "logging")
    script = f"{statement}\nimport sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

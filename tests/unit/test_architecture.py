"""Who may know whom, read from the source: imports go down the floors and never in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import imds_identity

PACKAGE = Path(imds_identity.__file__).parent

# From the cellar up. A room knows rooms of lower floors only, also where it imports a type.
FLOORS = (
    {"_version"},
    {"_runtime"},
    {"_core"},
    {"_wire", "errors"},
    {"_machine", "_sources"},
    {"_engine", "metadata"},
    {"_faces", "_endpoint", "doctor"},
    {"credential", "aio", "telemetry"},
    {"auth", "httpx"},
    {"__init__", "emulator"},
    {"cli"},
    {"__main__"},
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
# An independent witness: what it says of the services is not to be what the rest believes of them.
APART = "emulator"
KNOW_AZURE_CORE = {"metadata", "_faces", "credential", "aio", "auth", "httpx", "errors", "cli"}

LONGEST_FILE = 310
LARGEST_ROOM = 12

FILES = {
    ".".join(("imds_identity", *path.relative_to(PACKAGE).with_suffix("").parts)): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(name: str) -> str:
    return name.split(".")[1]


@cache
def imports(name: str) -> frozenset[str]:
    """Absolute names of all that a file imports, wherever in it and for whatever use.

    A module that is loaded by its name is named in a string.
    """
    found: set[str] = set()
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join((*base, *([node.module] if node.module else [])))
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & FILES.keys()
    return frozenset(found)


@cache
def files_known(name: str) -> frozenset[str]:
    """The files of this package that a file imports, by name."""
    return frozenset(filter(None, map(file_of, imports(name)))) - {name}


def file_of(imported: str) -> str | None:
    """The file that has what was imported: a module, or a name in one."""
    parent = imported.rpartition(".")[0]
    for name in (imported, f"{imported}.__init__", parent, f"{parent}.__init__"):
        if name in FILES:
            return name
    return None


def rooms_known(name: str) -> set[str]:
    return {room_of(known) for known in files_known(name)} - {room_of(name)}


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name: str) -> None:
    below = {room for room in FLOOR if FLOOR[room] < FLOOR[room_of(name)]}
    assert rooms_known(name) <= ({"_version"} if room_of(name) == APART else below)


def test_no_files_know_one_another_in_a_circle() -> None:
    TopologicalSorter({name: files_known(name) for name in FILES}).prepare()


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_at_one_sitting(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("room", sorted({path.parent for path in FILES.values()} - {PACKAGE}))
def test_a_room_is_taken_in_at_a_glance(room: Path) -> None:
    assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) <= LARGEST_ROOM


@pytest.mark.parametrize("name", FILES)
def test_azure_core_is_a_matter_of_the_faces(name: str) -> None:
    if room_of(name) not in KNOW_AZURE_CORE:
        assert not {module for module in imports(name) if module.startswith("azure.")}


@pytest.mark.parametrize(
    ("reader", "read"),
    [
        ("imds_identity._runtime.clock", {"time"}),
        ("imds_identity._runtime.environment", {"os.environ", "os.getenv"}),
    ],
)
@pytest.mark.parametrize("name", [name for name in FILES if room_of(name) != APART])
def test_time_and_the_environment_are_read_in_one_file_each(
    name: str, reader: str, read: set[str]
) -> None:
    if name == reader:
        return
    used = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(FILES[name].read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    modules = {module.split(".")[0] for module in imports(name)}
    assert not read & (used | modules | imports(name))


@pytest.mark.parametrize(
    "statement",
    ["import imds_identity", "from imds_identity import ManagedIdentityCredential as M; M()"],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(statement: str) -> None:
    heavy = ("azure", "requests", "msal", "filelock", "asyncio", "logging", "dataclasses")
    script = f"{statement}\nimport sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

"""The floors of the emulator: each imports from those above it in this list, and no other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import imds_identity.emulator as package

PACKAGE = Path(package.__file__).parent
FLOORS = [
    {"_addresses", "_clock", "_kinds", "_messages", "_pki"},
    {"_machine"},
    {"_state"},
    {"_settings"},
    {"_services"},
    {"_profiles"},
    {"_http"},
    {"_admin"},
    {"_assembly", "_running"},
    {"_emulator"},
    {"_cli"},
    {"__init__"},
    {"pytest_plugin"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """The emulator's modules that a module imports, wherever it does so."""
    found = set()
    here = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
            for alias in node.names:
                for parts in ([*base, alias.name], base):
                    file = PACKAGE.joinpath(*filter(None, parts)).with_suffix(".py")
                    if file.is_file():
                        found.add(name_of(file))
                        break
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_knows_only_the_rooms_below_it(path: Path) -> None:
    own = room_of(name_of(path))
    if own == "__init__":
        return  # it names what every room offers
    for module in imported(path):
        room = room_of(module)
        assert room == own or FLOOR_OF[room] < FLOOR_OF[own], module


def test_no_circle_stands_between_files() -> None:
    left = {name_of(path): imported(path) for path in MODULES}
    while left:
        free = {module for module, needs in left.items() if not needs & set(left)}
        assert free, f"a circle lies among {sorted(left)}"
        left = {module: needs for module, needs in left.items() if module not in free}


def test_no_file_is_too_long_to_read() -> None:
    long = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}


def test_no_room_holds_more_files_than_one_looks_through() -> None:
    rooms = {room for room in PACKAGE.rglob("*") if room.is_dir() and room.name[0] == "_"}
    rooms -= {room for room in rooms if room.name == "__pycache__"}
    crowded = {
        room.name: count
        for room in (PACKAGE, *rooms)
        if (count := len([file for file in room.glob("*.py") if file.name != "__init__.py"])) > 10
    }
    assert crowded == {}

"""Which module of the emulator may import which: imports go down the layers, never in a cycle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import imds_identity.emulator

SOURCE = Path(imds_identity.emulator.__file__).parent

# From the bottom up. A package imports packages of lower layers only, also where it needs a type.
LAYERS = (
    {"_addresses", "_clock", "_field_types", "_messages", "_pki"},
    {"_option"},
    {"_machine"},
    {"_state"},
    {"_settings"},
    {"_services"},
    {"_profiles"},
    {"_http"},
    {"_admin"},
    {"_running", "_state_builder"},
    {"_emulator"},
    {"_cli"},
    {"_container"},
    {"__init__"},
    {"pytest_plugin"},
)
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}

LONGEST_MODULE = 300
MOST_MODULES = 10

MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): path
    for path in sorted(SOURCE.rglob("*.py"))
}
PACKAGES = sorted({path.parent for path in MODULES.values()})


def package_of(name: str) -> str:
    return name.partition(".")[0]


def imported_modules(name: str) -> set[str]:
    """The modules of the emulator that a module imports, anywhere in its code."""
    found = set()
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            for alias in node.names:
                candidates = (".".join(filter(None, [*base, alias.name])), ".".join(base))
                found.update([each for each in candidates if each in MODULES][:1])
    return found


def imports_from_above(name: str) -> list[str]:
    own = package_of(name)
    if own == "__init__":
        return []  # it re-exports names of every package
    packages = {package_of(module) for module in imported_modules(name)} - {own}
    return [package for package in packages if LAYER[package] >= LAYER[own]]


def test_imports_go_down() -> None:
    found = {name: imports_from_above(name) for name in MODULES}
    assert {name: packages for name, packages in found.items() if packages} == {}


def test_modules_do_not_import_each_other_in_a_cycle() -> None:
    TopologicalSorter({name: imported_modules(name) for name in MODULES}).prepare()


def test_modules_are_short() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: number for name, number in lines.items() if number > LONGEST_MODULE} == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_has_few_modules(package: Path) -> None:
    names = [path.stem for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(names) <= MOST_MODULES

"""Which module may import which: imports go down the layers, never in a cycle."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import imds_identity
from imds_identity._core.failure import Failure
from imds_identity.cli import COMMANDS, load_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SOURCE = Path(imds_identity.__file__).parent

# From the bottom up. A package imports packages of lower layers only, also where it needs a type.
LAYERS = (
    {"_version"},
    {"_platform"},
    {"_core"},
    {"_http", "errors"},
    {"_shared_cache", "_sources"},
    {"_token_cache", "metadata"},
    {"_azure_core", "_endpoint", "doctor"},
    {"credential", "aio", "telemetry"},
    {"application", "auth", "hashicorp_vault", "httpx", "keyring"},
    {"__init__", "emulator"},
    {"cli"},
    {"__main__"},
)
LAYER = {package: number for number, layer in enumerate(LAYERS) for package in layer}
# The emulator shares no code with the client: a mistake must not be made twice and so go unnoticed.
INDEPENDENT = "emulator"
MAY_IMPORT_AZURE_CORE = {
    "metadata",
    "_azure_core",
    "credential",
    "aio",
    "auth",
    "hashicorp_vault",
    "httpx",
    "errors",
    "cli",
}

FAILURES = {"Failure"} | {kind.__name__ for kind in Failure.__subclasses__()}

LONGEST_MODULE = 330
MOST_MODULES = 12

MODULES = {
    ".".join(("imds_identity", *path.relative_to(SOURCE).with_suffix("").parts)): path
    for path in sorted(SOURCE.rglob("*.py"))
}


def package_of(name: str) -> str:
    return name.split(".")[1]


CLIENT = [name for name in MODULES if package_of(name) != INDEPENDENT]


def violations(found: Callable[[str], object], names: Iterable[str] = MODULES) -> dict[str, object]:
    """What ``found`` returns for each module where that is not empty.

    A test for each module would take longer to collect than to run.
    """
    return {name: problem for name in names if (problem := found(name))}


@cache
def syntax_tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@cache
def imports(name: str) -> frozenset[str]:
    """Absolute names of everything that a module imports, wherever in it and for whatever use.

    A string that is a module's name counts, too.
    """
    found: set[str] = set()
    package = name.split(".")[:-1]
    for node in ast.walk(syntax_tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join((*base, *([node.module] if node.module else [])))
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} & MODULES.keys()
    return frozenset(found)


@cache
def imported_modules(name: str) -> frozenset[str]:
    """The modules of this package that a module imports, by name."""
    return frozenset(filter(None, map(module_of, imports(name)))) - {name}


def module_of(imported: str) -> str | None:
    """The module that was imported, or that a name was imported from."""
    parent = imported.rpartition(".")[0]
    for name in (imported, f"{imported}.__init__", parent, f"{parent}.__init__"):
        if name in MODULES:
            return name
    return None


def imported_packages(name: str) -> set[str]:
    return {package_of(module) for module in imported_modules(name)} - {package_of(name)}


def imports_from_above(name: str) -> set[str]:
    below = {package for package in LAYER if LAYER[package] < LAYER[package_of(name)]}
    allowed = {"_version"} if package_of(name) == INDEPENDENT else below
    return imported_packages(name) - allowed


def test_imports_go_down() -> None:
    assert violations(imports_from_above) == {}


def test_modules_do_not_import_each_other_in_a_cycle() -> None:
    TopologicalSorter({name: imported_modules(name) for name in MODULES}).prepare()


def test_modules_are_short() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: number for name, number in lines.items() if number > LONGEST_MODULE} == {}


def test_packages_have_few_modules_besides_one_per_command() -> None:
    commands = {load_command(name).__name__ for name in COMMANDS}
    parents = [
        path.parent
        for name, path in MODULES.items()
        if path.name != "__init__.py" and path.parent != SOURCE and name not in commands
    ]
    assert {path: n for path, n in Counter(parents).items() if n > MOST_MODULES} == {}


def azure_imports(name: str) -> set[str]:
    return {module for module in imports(name) if module.startswith("azure.")}


def test_few_packages_import_azure_core() -> None:
    others = [name for name in MODULES if package_of(name) not in MAY_IMPORT_AZURE_CORE]
    assert violations(azure_imports, others) == {}


@pytest.mark.parametrize(
    ("reader", "read"),
    [
        ("imds_identity._platform.clock", {"time"}),
        ("imds_identity._platform.environment", {"os.environ", "os.getenv"}),
    ],
)
def test_time_and_the_environment_are_read_in_one_module_each(reader: str, read: set[str]) -> None:
    others = [name for name in CLIENT if name != reader]
    assert violations(lambda name: read & names_used(name), others) == {}


def end_of(text: ast.expr) -> str:
    """Return the last characters of a text, as far as the code shows them."""
    if isinstance(text, ast.JoinedStr | ast.BinOp):
        return end_of(text.values[-1] if isinstance(text, ast.JoinedStr) else text.right)
    return text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""


def misplaced_texts(name: str) -> list[str]:
    """Return problems that are sentences, and hints that are not."""
    texts: list[str] = []
    for node in ast.walk(syntax_tree(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            if ast.unparse(node.func) not in FAILURES:
                continue
            problem, hint = [*map(end_of, node.args[:2]), "", ""][:2]
            texts += [problem] if problem.endswith((".", "?")) else []
            texts += [hint] if hint.strip() and not hint.strip().endswith((".", "?")) else []
    return texts


def test_problem_of_a_failure_is_a_clause_and_its_hint_a_sentence() -> None:
    assert violations(misplaced_texts) == {}


@cache
def names_used(name: str) -> frozenset[str]:
    """The modules and names that a module imports, and their attributes that it uses."""
    attributes = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(syntax_tree(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    return imports(name) | attributes | {module.split(".")[0] for module in imports(name)}


def test_module_that_resets_its_state_in_a_child_also_detects_forks_in_c() -> None:
    """Python runs no fork hooks for them."""
    used = {name: {each.rpartition(".")[2] for each in imports(name)} for name in MODULES}
    resetting = [name for name in MODULES if "reset_in_child" in used[name]]
    assert [name for name in resetting if "detect_fork" not in used[name]] == []


# gevent and eventlet replace functions and classes of these modules at any time.
PATCHED_MODULES = {
    "_thread", "os", "queue", "select", "selectors", "signal", "socket", "ssl", "subprocess",
    "threading", "time",
}  # fmt: skip
# They read a clock, run at import, or create a lock that is held only while no thread can switch.
USED_AT_IMPORT = {
    "time.clock_gettime",
    "time.monotonic",
    "time.time",
    "os.register_at_fork",
    "os.getpid",
    "os.stat",
    "os.path.join",
    "threading.RLock",
    "threading.local",
}


class AtImport(ast.NodeVisitor):
    """Collects what a module's import evaluates of the patched modules."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        for evaluated in [*getattr(node, "decorator_list", ()), *defaults]:
            self.visit(evaluated)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - the base class's names
    visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.found.add(ast.unparse(node))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found |= {f"{node.module}.{alias.name}" for alias in node.names if not node.level}


def may_be_replaced(name: str) -> bool:
    """Whether ``name`` is a function or a class of a patched module that must be looked up late."""
    module, *path = name.split(".")
    if module not in PATCHED_MODULES or name in USED_AT_IMPORT:
        return False
    value: Any = importlib.import_module(module)
    for part in path:
        value = getattr(value, part, None)
    is_exception = isinstance(value, type) and issubclass(value, BaseException)
    return callable(value) and not is_exception and not isinstance(value, int)


def replaceable_at_import(name: str) -> set[str]:
    at_import = AtImport()
    at_import.visit(syntax_tree(name))
    return {used for used in at_import.found if may_be_replaced(used)}


def test_functions_that_gevent_may_replace_are_looked_up_when_they_are_used() -> None:
    """`time.sleep` in a variable since the import would block all green threads."""
    assert violations(replaceable_at_import, CLIENT) == {}


@pytest.mark.parametrize(
    "statement",
    ["import imds_identity", "from imds_identity import ManagedIdentityCredential as M; M()"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str) -> None:
    heavy = ("azure", "requests", "msal", "filelock", "asyncio", "logging", "dataclasses")
    script = f"{statement}\nimport sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

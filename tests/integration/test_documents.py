"""The code on documentation pages runs unchanged, against a fake Azure."""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fake_azure import FakeAzure
from imds_identity.cli import build_parser
from imds_identity.emulator import DEFAULT_USER_ASSIGNED
from markdown_blocks import ROOT, Block, blocks
from page_runner import RUNNERS, run_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imds_identity.emulator import Emulator

GENERATED = {"reference/command-line.md"}  # pages that exist only on the site
# `make interop` installs their dependencies.
INTEROP_PAGES = {"docs/how-to/openai.md", "docs/recipes.md"}
PAGES = sorted(
    {"README.md", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))}
    - INTEROP_PAGES
)
NOT_RUN = {
    "text",
    "mermaid",
    "json",
    "http",
    "yaml",
    "terraform",
}  # languages that readers do not run
ELSEWHERE = {"csharp", "go", "java", "js", "powershell"}  # tests/interop/test_language_snippets.py


# The other pages take half as long as all other tests, so that only `make docs` runs them.
PAGES_TO_RUN = [
    page if page == "README.md" else pytest.param(page, marks=pytest.mark.docs) for page in PAGES
]


@pytest.mark.skipif(not shutil.which("sh"), reason="needs sh")
@pytest.mark.parametrize("page", PAGES_TO_RUN)
def test_code_blocks_of_a_page_run_in_order(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


def test_replacement_of_default_azure_credential_requests_the_same_identity(
    imds_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    [replacement] = [
        block.text
        for block in blocks("docs/how-to/migrate.md", "python")
        if "DefaultAzureCredential" in block.text
    ]
    for client_id in ("", DEFAULT_USER_ASSIGNED.client_id):
        monkeypatch.setenv("AZURE_CLIENT_ID", client_id)
        exec(replacement, {})
        assert imds_emulator.requests[-1].query.get("client_id", "") == client_id


@pytest.mark.parametrize("page", PAGES)
def test_every_code_block_has_a_known_language(page: str) -> None:
    unknown = [
        block for block in blocks(page) if block.language not in {*RUNNERS, *NOT_RUN, *ELSEWHERE}
    ]
    assert [str(block) for block in unknown] == []
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", (ROOT / page).read_text(encoding="utf-8"))
    indented = re.findall(r"^\n(?: {4}|\t)\S.*", text, re.MULTILINE)
    assert indented == [], "an indented code block has no language; use a fence"


NOT_RUN_BLOCKS = [block for page in PAGES for block in blocks(page) if block.skip_reason]


def commands_of(block: Block) -> str:
    return block.commands if block.language == "console" else block.text


@pytest.mark.parametrize("block", NOT_RUN_BLOCKS, ids=str)
def test_block_that_is_not_run_names_the_test_that_checks_it(block: Block) -> None:
    reason = block.skip_reason or ""
    paths = re.findall(r"tests/[\w/.]+", reason)  # test_named_paths.py verifies that they exist
    assert paths or reason.startswith("make interop runs it"), block


@pytest.mark.skipif(not shutil.which("sh"), reason="needs sh")
@pytest.mark.parametrize(
    "block", [block for block in NOT_RUN_BLOCKS if block.language in ("console", "sh")], ids=str
)
def test_commands_that_are_not_run_have_valid_options(block: Block) -> None:
    commands = commands_of(block)
    subprocess.run(["sh", "-n"], input=commands, text=True, check=True)
    for line in re.findall(r"(?m)^imds-identity .*", commands.replace("\\\n", " ")):
        arguments = shlex.split(line.partition(" | ")[0], comments=True)[1:]
        build_parser(arguments).parse_args(arguments)


@pytest.mark.parametrize(
    "block", [block for block in NOT_RUN_BLOCKS if block.language == "python"], ids=str
)
def test_python_that_is_not_run_imports_existing_names(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and find_spec(f"{node.module}".partition(".")[0]):
            with contextlib.suppress(ModuleNotFoundError):  # other extras of the package
                module = importlib.import_module(f"{node.module}")
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_packages_that_programs_import_are_named(page: str) -> None:
    programs = [
        re.sub(r"(?m)^-.*|^[+ ]", "", block.text) if block.language == "diff" else block.text
        for block in blocks(page, "python", "diff")
    ]
    markdown = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^( *)```(?:python|diff).*?^\1```$", "", markdown).lower()
    own_files = {Path(block.title or "").stem for block in blocks(page)}
    present = {*sys.stdlib_module_names, "imds_identity", "requests", *own_files}
    missing = set()
    for node in (node for text in programs for node in ast.walk(ast.parse(text))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [f"{node.module}"] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            top, distribution = name.partition(".")[0], name.removesuffix(".aio").replace(".", "-")
            if top in present or name.startswith("azure.core"):
                continue
            named = (
                re.findall(r"azure-[a-z-]+", text) if top == "azure" else [top.replace("_", "-")]
            )
            if not any(distribution.replace("_", "-").startswith(n) and n in text for n in named):
                missing.add(name)
    assert missing == set()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_token_for_curl_is_not_visible_in_command_lines_or_environments(
    tmp_path: Path,
) -> None:
    text = "".join(block.text for block in blocks("docs/how-to/management-plane.md", "sh"))
    commands = re.findall(r"imds-identity token .*\|\s+curl .*", text)
    seen: list[tuple[bool, bool]] = []

    def inspect_processes(token: str) -> None:
        visible = list(_command_lines_and_environments())
        curl_runs = any(text.startswith(b"curl\0-s\0-H\0@-\0") for text in visible)
        seen.append((curl_runs, any(token.encode() in text for text in visible)))

    with FakeAzure(tmp_path) as azure:
        azure.sites.on_request = inspect_processes
        done = azure.shell(*commands)
    assert '"displayName": "Production"' in done.stdout, done.stderr
    assert seen == [(True, False)]


def _command_lines_and_environments() -> Iterator[bytes]:
    for kind in ("cmdline", "environ"):
        for file in Path("/proc").glob(f"[0-9]*/{kind}"):
            with contextlib.suppress(OSError):
                yield file.read_bytes()


@pytest.mark.parametrize("page", PAGES)
def test_local_links_of_a_page_exist(page: str) -> None:
    markdown = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", markdown)
    local = {a or b for a, b in targets if "://" not in (a or b)} - GENERATED
    assert [path for path in local if not (ROOT / page).parent.joinpath(path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_yaml_have_valid_options(page: str) -> None:
    for block in blocks(page, "yaml"):
        for line in re.findall(
            r"(?<![\w\[/-])imds-identity ([a-z].*?)(?: [|>&]|[)\"']|$)", block.text, re.MULTILINE
        ):
            arguments = shlex.split(line)
            build_parser(arguments).parse_args(arguments)

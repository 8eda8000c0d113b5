"""Programs get tokens in every mode of the interpreter and however they start."""

from __future__ import annotations

import json
import multiprocessing
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
import typing_extensions

from program_support import PROGRAMS, RESOURCES, ProgramHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from imds_identity.emulator import Emulator

PROGRAM = str(PROGRAMS / "every_credential.py")
STRICT = ("-X", "dev", "-X", "warn_default_encoding", "-bb", "-W", "error")
# -I ignores PYTHONPATH and the directory of the program.
ISOLATED = f"import runpy, sys; sys.path.insert(0, {str(PROGRAMS)!r}); "
MODES = {
    "dev": (*STRICT, PROGRAM),
    "optimized": ("-OO", "-W", "error", PROGRAM),
    "isolated": ("-I", *STRICT, "-c", f"{ISOLATED}runpy.run_path({PROGRAM!r}, {{}}, '__main__')"),
    "runpy": (*STRICT, "-c", "import runpy; runpy.run_module('every_credential', {}, '__main__')"),
}


@pytest.fixture
def host(emulator_factory: Callable[..., Emulator], tmp_path: Path) -> ProgramHost:
    return ProgramHost(emulator_factory, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_program_gets_tokens_without_a_warning(host: ProgramHost, mode: str) -> None:
    assert host.run_job(*MODES[mode])["failure"] == "CredentialUnavailableError"


@pytest.mark.parametrize("mode", [STRICT, ("-OO",)], ids=["dev", "optimized"])
def test_every_adapter_gets_a_token_without_a_warning(
    host: ProgramHost, mode: tuple[str, ...]
) -> None:
    pytest.importorskip("httpx")
    tokens = int(host.run(*mode, str(PROGRAMS / "every_adapter.py")))
    assert [each.status for each in host.emulator.token_requests] == [200] * tokens


# The packages that a token request needs. -S hides the installed ones.
ZIPPED = (
    "azure.core", "certifi", "charset_normalizer", "filelock", "h11", "idna", "imds_identity",
    "requests", "urllib3",
)  # fmt: skip


def test_zipapp_with_all_dependencies(host: ProgramHost, tmp_path: Path) -> None:
    archive = tmp_path / "program.pyz"
    with ZipFile(archive, "w") as content:
        content.writestr("azure/", "")  # a package without a file of its own
        content.writestr("__main__.py", "import every_credential\nevery_credential.main()\n")
        for name in ZIPPED:
            (source,) = import_module(name).__path__
            for path in Path(source).rglob("*.py"):
                content.write(path, Path(name.replace(".", "/"), path.relative_to(source)))
        for path in (*PROGRAMS.glob("*.py"), Path(typing_extensions.__file__)):
            content.write(path, path.name)
    assert host.run_job("-S", "-I", *STRICT, str(archive))["failure"]


WITHOUT_PATH = """
import sys
import azure.core.exceptions, http.client  # as every client of the Azure SDK does
from every_credential import imds_identity, main
imds_identity.ManagedIdentityCredential()
sys.path.clear()
sys.path_importer_cache.clear()
main()
"""


def test_program_that_clears_the_import_path(host: ProgramHost) -> None:
    assert host.run_job(*STRICT, "-c", WITHOUT_PATH)["failure"] == "CredentialUnavailableError"


SMALL_STACKS = """
import threading
threading.stack_size(64 * 1024)
from every_credential import main
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other minimums")
def test_program_with_small_thread_stacks(host: ProgramHost) -> None:
    host.run_job("-W", "error", "-c", SMALL_STACKS)


WITHOUT_STREAMS = """
import os, sys
for descriptor in range(3):
    os.close(descriptor)
sys.stdin = sys.stdout = sys.stderr = None
from every_credential import main
with open("output", "w", encoding="utf-8") as sys.stdout:
    main()
    sys.stdout = None
"""

WITHOUT_DESCRIPTORS = """
import json, os
from token_jobs import SCOPES, imds_identity, sync_job
credential = imds_identity.ManagedIdentityCredential()
credential.get_token(SCOPES[0])
os.closerange(3, 256)
others = [os.open(os.devnull, os.O_RDWR) for _ in range(20)]
print(json.dumps({"digests": [sync_job(credential)]}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX daemons close their descriptors")
def test_daemon_without_standard_streams(host: ProgramHost, tmp_path: Path) -> None:
    assert host.run(*STRICT, "-c", WITHOUT_STREAMS) == ""
    host.check(json.loads((tmp_path / "output").read_text())["digests"])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX daemons close their descriptors")
def test_daemon_that_closes_all_descriptors(host: ProgramHost) -> None:
    host.run_job(*STRICT, "-c", WITHOUT_DESCRIPTORS)


COMMANDS = (
    ["token", RESOURCES[0]],
    ["whoami"],
    ["cache", "show"],
    ["metadata"],
    ["exec", "--", sys.executable, "-c", ""],
    ["doctor"],
)


@pytest.mark.parametrize("mode", [STRICT, ("-I", "-OO")], ids=["dev", "optimized"])
def test_commands_print_no_warning(host: ProgramHost, mode: tuple[str, ...]) -> None:
    for command in COMMANDS:
        host.run(*mode, "-m", "imds_identity", *command)


STARTS = multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("pool", ["multiprocessing", "concurrent.futures"])
@pytest.mark.parametrize("start_method", STARTS)
def test_pool_of_processes_sends_one_request_per_token(
    host: ProgramHost, start_method: str, pool: str
) -> None:
    host.run_job(*STRICT, str(PROGRAMS / "processes.py"), start_method, pool)

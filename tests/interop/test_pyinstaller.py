"""Programs that PyInstaller packs get tokens without hidden-import options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyinstaller_program import MODES

if TYPE_CHECKING:
    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop

PROGRAM = Path(__file__).with_name("pyinstaller_program.py")
# The smallest program that a user would write, without imports that could hide a missing module.
MINIMAL_PROGRAM = """\
from imds_identity import ManagedIdentityCredential
print(ManagedIdentityCredential().get_token("https://vault.azure.net/.default").token)
"""
# Both layouts with one analysis, which takes most of the time.
SPEC = """\
analysis = Analysis([{script!r}])
modules = PYZ(analysis.pure)
EXE(modules, analysis.scripts, analysis.binaries, analysis.datas, name="onefile")
program = EXE(modules, analysis.scripts, name="program", exclude_binaries=True)
COLLECT(program, analysis.binaries, analysis.datas, name="onedir")
"""
PROGRAMS = {"onedir": "onedir/program", "onefile": "onefile"}


def build(script: Path, folder: Path) -> Path:
    """Pack a script with PyInstaller; return the folder of `PROGRAMS`."""
    pytest.importorskip("PyInstaller", reason="PyInstaller is not installed: run make interop")
    if sys.platform == "linux" and shutil.which("objdump") is None:
        pytest.skip("PyInstaller needs objdump (binutils)")
    spec = folder / "program.spec"
    spec.write_text(SPEC.format(script=str(script)))
    done = subprocess.run(
        [sys.executable, "-m", "PyInstaller", "--noconfirm", "--distpath", str(folder / "dist"),
         "--workpath", str(folder / "build"), str(spec)],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "dist"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(PROGRAM, tmp_path_factory.mktemp("programs"))


def run(program: Path, emulator: Emulator, folder: Path, *arguments: str) -> None:
    """Run a packed program and check that it prints the token that the emulator issued."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "AZURE_", "IMDS_", "IDENTITY_"))
    }
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env={**environment, **emulator.environment(), "IMDS_IDENTITY_CACHE": str(folder / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [request] = emulator.token_requests
    assert request.status == 200
    assert done.stdout.startswith("eyJ")
    assert done.stdout.count(".") == 2
    if "debug-logging" in arguments:
        assert "DEBUG:imds_identity" in done.stderr


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", PROGRAMS)
def test_packed_program_gets_a_token(
    programs: Path, layout: str, mode: str, imds_emulator: Emulator, tmp_path: Path
) -> None:
    run(programs / PROGRAMS[layout], imds_emulator, tmp_path, mode)


def test_minimal_packed_program_gets_a_token(imds_emulator: Emulator, tmp_path: Path) -> None:
    script = tmp_path / "minimal.py"
    script.write_text(MINIMAL_PROGRAM)
    run(build(script, tmp_path) / PROGRAMS["onedir"], imds_emulator, tmp_path)

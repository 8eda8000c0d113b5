"""Known advisories of the oldest dependencies that the package accepts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from .conftest import REPOSITORY, TOOLS, Environment, uv

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.package
EXTRAS = ("attested", "completion", "demo", "emulator", "httpx", "otel")
ROW = re.compile(r"^\| ([A-Za-z0-9-]+) \| ([0-9.]+) \| ([^|]*) \| ([^|]*)\|$", re.MULTILINE)
ADVISORY = re.compile(r"(?:CVE|GHSA|PYSEC)-[\w-]+")


def table() -> dict[str, tuple[str, list[str]]]:
    """Return the lowest version of each package, and the advisories that do not matter."""
    rows = ROW.findall((REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    return {name.lower(): (version, ADVISORY.findall(rest)) for name, version, _, rest in rows}


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a requirements file with the lowest version of each package."""
    path = tmp_path_factory.mktemp("oldest") / "requirements.txt"
    flags = ("--resolution", "lowest-direct", "--python-version", "3.10")
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    output = ("--no-header", "--no-annotate", "--output-file", str(path))
    uv("pip", "compile", "--quiet", *flags, "pyproject.toml", *extras, *output)
    return path


def test_table_has_the_lowest_versions(oldest: Path) -> None:
    versions = dict(line.split("==") for line in oldest.read_text().splitlines() if "==" in line)
    assert table()
    for name, (version, _) in table().items():
        assert f"{versions[name]}.".startswith(f"{version}."), name


def test_no_advisory_concerns_the_lowest_versions(oldest: Path) -> None:
    ignored = [
        word for _, ids in table().values() for each in ids for word in ("--ignore-vuln", each)
    ]
    flags = ("--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off")
    done = Environment(TOOLS).run("pip-audit", *flags, *ignored, "-r", str(oldest))
    found = json.loads(done.stdout)["dependencies"] if done.stdout else []
    audited = [each for each in found if "vulns" in each]
    if not audited:
        # pip-audit reports no error if the index has packages but no advisories.
        pytest.skip(f"pip-audit's database cannot be reached: {done.stderr[-300:]}")
    assert {each["name"]: each["vulns"] for each in audited if each["vulns"]} == {}
    assert len(audited) == len(found)

"""The contents and the metadata of the sdist and the wheel, and reproducible builds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

from .conftest import REPOSITORY, TOOLS, Environment, build

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Distributions

pytestmark = pytest.mark.package
HOME = "https://github.com/imds-identity/imds-identity"
RAW = HOME.replace("github.com", "raw.githubusercontent.com")


def tracked_files() -> set[str]:
    """Return the files of the repository."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs a Git repository")
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True)
    return set(filter(None, names.split("\0")))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_builds_in_different_places_are_identical(
    distributions: Distributions, build_date: dict[str, str], tmp_path: Path
) -> None:
    source = distributions.unpack(tmp_path / "elsewhere")
    for path in source.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(path.stat().st_mode & 0o700)
    others = {"TZ": "Pacific/Chatham", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    again = build(source, tmp_path / "dist", umask=0o077, variables=build_date | others)
    assert [each.name for each in again] == [each.name for each in distributions]
    assert [digest(each) for each in again] == [digest(each) for each in distributions]


def test_sdist_contains_the_repository(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        files = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}
    assert files - {"PKG-INFO"} == tracked_files()


def test_wheel_contains_only_the_package(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        files = set(archive.namelist())
    package = {name for name in files if ".dist-info/" not in name}
    source = REPOSITORY / "src"
    assert package == {
        path.relative_to(source).as_posix()
        for path in (source / "imds_identity").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"imds_identity/py.typed", "imds_identity/emulator/_admin/templates/page.html"} < package
    assert {name.partition("/")[2] for name in files - package} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
        "sboms/imds-identity.cdx.json",
    }


def test_distributions_pass_the_checks_of_twine_and_pyroma(distributions: Distributions) -> None:
    tools = Environment(TOOLS)
    for done in (
        tools.run("twine", "check", "--strict", *map(str, distributions)),
        tools.run("pyroma", "--min=10", str(distributions.sdist)),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


def test_metadata_contains_links_and_authors(distributions: Distributions) -> None:
    labels = [each.partition(",")[0] for each in distributions.metadata.get_all("Project-URL", [])]
    assert labels == ["Homepage", "Documentation", "Source", "Issues", "Changelog"]
    assert distributions.metadata["Author-email"].startswith("The imds-identity authors <")


def test_links_and_images_of_the_index_page_exist(distributions: Distributions) -> None:
    from readme_renderer.markdown import render

    text = str(distributions.metadata.get_payload())
    page = str(render(text))
    version = distributions.metadata["Version"]
    assert not re.findall(r'(?:\]\(|(?:src|srcset|href)=")(?!https://|#)\S*', text)
    links = re.findall(r'(?:href|src|srcset)="([^"]*)"', page)
    bases = {RAW + f"/v{version}/", HOME + f"/blob/v{version}/"}
    paths = [link.removeprefix(base) for link in links for base in bases if link.startswith(base)]
    assert links
    assert not [link for link in links if not link.startswith(("https://", "#"))]
    assert not [path for path in paths if not (REPOSITORY / path.partition("#")[0]).exists()]
    images = re.findall(r'src(?:set)?="([^"]*)"', page)
    assert not [link for link in images if not link.startswith(RAW)]


class TestSbom:
    def test_sbom_is_valid_cyclonedx(self, distributions: Distributions) -> None:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        assert (
            JsonStrictValidator(SchemaVersion.V1_7).validate_str(sbom_text(distributions)) is None
        )

    def test_sbom_lists_the_dependencies_of_users(self, distributions: Distributions) -> None:
        document = json.loads(sbom_text(distributions))
        component = document["metadata"]["component"]
        assert (component["name"], component["version"]) == ("imds-identity", "0.1.0")
        ranges = {each["name"]: each["versionRange"] for each in document["components"]}
        for extra in ("", "attested", "demo", "emulator", "httpx", "otel"):
            for requirement in required(distributions, extra):
                assert ranges[requirement.name] == f"vers:pypi/{requirement.specifier}"
        assert not {"mypy", "pytest"} & ranges.keys()

    def test_sbom_separates_required_from_optional_dependencies(
        self, distributions: Distributions
    ) -> None:
        scopes: dict[str, set[str]] = {}
        for each in json.loads(sbom_text(distributions))["components"]:
            scopes.setdefault(each["scope"], set()).add(each["name"])
        assert scopes["required"] == {each.name for each in required(distributions, "")}
        assert "aiohttp" in scopes["optional"]


def sbom_text(distributions: Distributions) -> str:
    with zipfile.ZipFile(distributions.wheel) as archive:
        [name] = [each for each in archive.namelist() if "/sboms/" in each]
        return archive.read(name).decode()


def required(distributions: Distributions, extra: str) -> list[Any]:
    requirements = map(Requirement, distributions.metadata.get_all("Requires-Dist", []))
    environment = {"extra": extra, "python_version": "3.10"}
    return [
        each for each in requirements if each.marker is None or each.marker.evaluate(environment)
    ]

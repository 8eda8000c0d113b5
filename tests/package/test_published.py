"""The sdist and the wheel: what is in them, what they say of themselves, and that each is one."""

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

    from .conftest import Published

pytestmark = pytest.mark.package
HOME = "https://github.com/imds-identity/imds-identity"
RAW = HOME.replace("github.com", "raw.githubusercontent.com")


def tracked() -> set[str]:
    """The files of the repository."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no repository")
    named = subprocess.check_output(["git", "ls-files", "-z"], cwd=REPOSITORY, text=True)
    return set(filter(None, named.split("\0")))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_two_builds_in_different_places_give_the_same_bytes(
    published: Published, date: dict[str, str], tmp_path: Path
) -> None:
    source = published.unpacked(tmp_path / "elsewhere")
    for path in source.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(path.stat().st_mode & 0o700)
    others = {"TZ": "Pacific/Chatham", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    again = build(source, tmp_path / "dist", umask=0o077, variables=date | others)
    assert [each.name for each in again] == [each.name for each in published]
    assert [digest(each) for each in again] == [digest(each) for each in published]


def test_the_sdist_holds_the_repository(published: Published) -> None:
    with tarfile.open(published.sdist) as archive:
        files = {each.name.partition("/")[2] for each in archive.getmembers() if each.isfile()}
    assert files - {"PKG-INFO"} == tracked()


def test_the_wheel_holds_the_package_and_nothing_else(published: Published) -> None:
    with zipfile.ZipFile(published.wheel) as archive:
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


def test_what_is_published_is_as_the_index_wants_it(published: Published) -> None:
    tools = Environment(TOOLS)
    for done in (
        tools.run("twine", "check", "--strict", *map(str, published)),
        tools.run("pyroma", "--min=10", str(published.sdist)),
    ):
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_says_where_to_find_what_a_user_looks_for(published: Published) -> None:
    labels = [each.partition(",")[0] for each in published.metadata.get_all("Project-URL", [])]
    assert labels == ["Homepage", "Documentation", "Source", "Issues", "Changelog"]
    assert published.metadata["Author-email"].startswith("The imds-identity authors <")


def test_each_link_and_picture_of_the_index_s_page_leads_to_a_file(published: Published) -> None:
    from readme_renderer.markdown import render

    text = str(published.metadata.get_payload())
    page = str(render(text))
    version = published.metadata["Version"]
    assert not re.findall(r'(?:\]\(|(?:src|srcset|href)=")(?!https://|#)\S*', text)
    links = re.findall(r'(?:href|src|srcset)="([^"]*)"', page)
    ours = {RAW + f"/v{version}/", HOME + f"/blob/v{version}/"}
    paths = [link.removeprefix(base) for link in links for base in ours if link.startswith(base)]
    assert links
    assert not [link for link in links if not link.startswith(("https://", "#"))]
    assert not [path for path in paths if not (REPOSITORY / path.partition("#")[0]).exists()]
    pictures = re.findall(r'src(?:set)?="([^"]*)"', page)
    assert not [link for link in pictures if not link.startswith(RAW)]


class TestSbom:
    def test_it_is_cyclonedx(self, published: Published) -> None:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text_of(published)) is None

    def test_it_names_what_users_get_with_the_wheel(self, published: Published) -> None:
        document = json.loads(text_of(published))
        itself = document["metadata"]["component"]
        assert (itself["name"], itself["version"]) == ("imds-identity", "0.1.0")
        named = {each["name"]: each["versionRange"] for each in document["components"]}
        for extra in ("", "attested", "demo", "emulator", "httpx", "otel"):
            for wanted in required(published, extra):
                assert named[wanted.name] == f"vers:pypi/{wanted.specifier}"
        assert not {"mypy", "pytest"} & named.keys()

    def test_it_tells_what_is_needed_from_what_may_be_added(self, published: Published) -> None:
        scopes: dict[str, set[str]] = {}
        for each in json.loads(text_of(published))["components"]:
            scopes.setdefault(each["scope"], set()).add(each["name"])
        assert scopes["required"] == {each.name for each in required(published, "")}
        assert "aiohttp" in scopes["optional"]


def text_of(published: Published) -> str:
    with zipfile.ZipFile(published.wheel) as archive:
        [name] = [each for each in archive.namelist() if "/sboms/" in each]
        return archive.read(name).decode()


def required(published: Published, extra: str) -> list[Any]:
    wanted = map(Requirement, published.metadata.get_all("Requires-Dist", []))
    where = {"extra": extra, "python_version": "3.10"}
    return [each for each in wanted if each.marker is None or each.marker.evaluate(where)]

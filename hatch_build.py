"""Build hook that adds an SBOM of the dependencies to the wheel.

https://peps.python.org/pep-0770/, https://cyclonedx.org/docs/1.7/json/
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.utils import get_reproducible_timestamp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hatchling.metadata.core import ProjectMetadata

_FILE = "imds-identity.cdx.json"
_DEVELOPER_EXTRAS = ("dev", "docs")
_LINK_TYPES = {
    "Homepage": "website",
    "Documentation": "documentation",
    "Source": "vcs",
    "Issues": "issue-tracker",
    "Changelog": "release-notes",
}


class SbomHook(BuildHookInterface[Any]):
    """Add the SBOM to the wheel's metadata."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the SBOM to a file for the builder, except for an editable install."""
        if self.target_name != "wheel" or version == "editable":
            return
        self._directory = tempfile.mkdtemp()
        path = os.path.join(self._directory, _FILE)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(sbom(self.metadata), file, indent=2, sort_keys=True)
            file.write("\n")
        build_data["sbom_files"].append(path)

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact: str) -> None:
        """Remove the temporary file."""
        if self.target_name == "wheel":
            shutil.rmtree(getattr(self, "_directory", ""), ignore_errors=True)


def sbom(metadata: ProjectMetadata[Any]) -> dict[str, Any]:
    """Return the CycloneDX document of a project.

    The wheel contains no other project. Dependencies are external components with version ranges,
    because the installed versions are chosen at installation.
    """
    core = metadata.core
    purl = f"pkg:pypi/{core.name}@{metadata.version}"
    components = list(_components(core.dependencies, core.optional_dependencies, core.name))
    built_at = datetime.fromtimestamp(get_reproducible_timestamp(), timezone.utc)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "version": 1,
        "metadata": {
            "timestamp": built_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "library",
                "bom-ref": purl,
                "name": core.name,
                "version": metadata.version,
                "description": core.description,
                "purl": purl,
                "authors": core.authors,
                "licenses": [{"license": {"id": core.license_expression}}],
                "externalReferences": [
                    {"type": _LINK_TYPES[name], "url": url} for name, url in core.urls.items()
                ],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": purl, "dependsOn": [each["bom-ref"] for each in components]},
            *({"ref": each["bom-ref"]} for each in components),
        ],
    }


def _components(
    dependencies: list[str], extras: dict[str, list[str]], project: str
) -> Iterator[dict[str, Any]]:
    """Yield a component for each dependency of the project and of its extras for users."""
    required = {_name(text): text for text in dependencies}
    optional = {
        _name(text): text
        for extra, texts in extras.items()
        if extra not in _DEVELOPER_EXTRAS
        for text in texts
        if _name(text) not in {project, *required}
    }
    for scope, texts in (("required", required), ("optional", optional)):
        for name, text in sorted(texts.items()):
            yield {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}",
                "name": name,
                "purl": f"pkg:pypi/{name}",
                "scope": scope,
                "isExternal": True,
                "versionRange": f"vers:pypi/{_versions(text)}",
            }


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _versions(requirement: str) -> str:
    """Return the accepted versions as a range (https://github.com/package-url/vers-spec)."""
    return "|".join(sorted(map(str, Requirement(requirement).specifier))) or "*"

"""git, pip, uv, twine and hvac with tokens of a managed identity."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from interop_support import require_part

from fake_devops import FakeDevOps
from fake_vault import VAULT_TOKEN, FakeVault
from imds_identity.emulator import DEFAULT_USER_ASSIGNED
from imds_identity.hashicorp_vault import azure_login

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop
FEED = "https://pkgs.dev.azure.com/org/_packaging/feed/pypi"
WHEEL = "demo_of_a_feed-1.0-py3-none-any.whl"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_clones_with_a_token(imds_emulator: Emulator, tmp_path: Path) -> None:
    command = f'"{sys.executable}" -m imds_identity git-credential'
    identity = DEFAULT_USER_ASSIGNED.client_id
    with FakeDevOps.running(imds_emulator, tmp_path) as devops:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            **devops.environment,
            "HOME": str(tmp_path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

        def git(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["git", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
                check=False, timeout=60,
            )  # fmt: skip

        git("init", "-q", "--bare", "files/repo")
        (tmp_path / "note").write_text("hello")
        added = git("--git-dir=files/repo", "--work-tree=.", "add", "note")
        assert added.returncode == 0, added.stderr
        author = ("-c", "user.name=n", "-c", "user.email=e@example.com")
        git("--git-dir=files/repo", "--work-tree=.", *author, "commit", "-q", "-m", "one")
        helpers = ["-c", f"credential.helper=!{command} --client-id {identity}"]
        helpers += ["-c", f"credential.helper=store --file {tmp_path}/stored"]
        done = git(*helpers, "clone", "-q", "https://dev.azure.com/repo", "clone")
        assert done.returncode == 0, done.stderr
        knows_types = git("credential", "capability").stdout.find("authtype") >= 0
    assert (tmp_path / "clone" / "note").read_text() == "hello"
    assert len(imds_emulator.token_requests) == 1
    expected = ("Bearer", "") if knows_types else ("Basic", "VssSessionToken")
    assert set(devops.accepted) == {expected}
    if knows_types:
        assert not (tmp_path / "stored").exists()


def environment_of(devops: FakeDevOps, folder: Path) -> dict[str, str]:
    """Return the variables of pip, uv and twine: none of the user's configuration."""
    names = ("PATH", "LANG", "TMPDIR")
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        **devops.environment,
        "HOME": str(folder),
        "PIP_KEYRING_PROVIDER": "import",
        "PIP_NO_INPUT": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """A folder with a feed that contains one package."""
    packages = tmp_path / "files/org/_packaging/feed/pypi"
    (packages / "simple/demo-of-a-feed").mkdir(parents=True)
    (packages / "download").mkdir()
    with ZipFile(packages / "download" / WHEEL, "w") as wheel:
        info = "demo_of_a_feed-1.0.dist-info"
        wheel.writestr("demo_of_a_feed.py", "")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: demo-of-a-feed\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    link = f'<a href="/org/_packaging/feed/pypi/download/{WHEEL}">{WHEEL}</a>'
    (packages / "simple/demo-of-a-feed/index.html").write_text(link)
    return packages


@pytest.mark.parametrize(
    ("program", "url", "user"),
    [
        (("python", "-m", "pip"), FEED, "VssSessionToken"),
        (("uv", "pip"), FEED.replace("https://", "https://any@"), "any"),
    ],
)
def test_package_is_installed_from_a_feed(
    imds_emulator: Emulator,
    tmp_path: Path,
    feed: Path,
    program: tuple[str, ...],
    url: str,
    user: str,
) -> None:
    programs = require_part("keyring") / "keyring/bin"
    with FakeDevOps.running(imds_emulator, tmp_path) as devops:
        environment = environment_of(devops, tmp_path)
        environment |= {
            "PATH": f"{programs}{os.pathsep}{environment['PATH']}",
            "UV_KEYRING_PROVIDER": "subprocess",
            "UV_NO_CACHE": "1",
            "VIRTUAL_ENV": str(programs.parent),
        }
        done = subprocess.run(
            [programs / program[0], *program[1:], "install", "--no-deps", "--index-url",
             f"{url}/simple/", "--target", tmp_path / "installed", "demo-of-a-feed"],
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed/demo_of_a_feed.py").exists()
    assert ("Basic", user) in devops.accepted
    assert len(imds_emulator.token_requests) == 1


def test_package_is_uploaded_to_a_feed(imds_emulator: Emulator, tmp_path: Path, feed: Path) -> None:
    programs = require_part("keyring") / "keyring/bin"
    with FakeDevOps.running(imds_emulator, tmp_path) as devops:
        done = subprocess.run(
            [programs / "twine", "upload", "--non-interactive", "--repository-url",
             f"{FEED}/upload/", feed / "download" / WHEEL],
            env=environment_of(devops, tmp_path), capture_output=True, text=True, check=False,
            timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert devops.accepted == [("Basic", "VssSessionToken")]
    [body] = devops.uploaded
    assert b"demo_of_a_feed" in body


def test_other_index_gets_no_token(imds_emulator: Emulator, tmp_path: Path, feed: Path) -> None:
    programs = require_part("keyring") / "keyring/bin"
    with FakeDevOps.running(imds_emulator, tmp_path) as devops:
        subprocess.run(
            [programs / "python", "-m", "pip", "download", "--no-deps", "--retries", "0",
             "--index-url", FEED.replace("pkgs.", "") + "/simple/", "demo-of-a-feed"],
            env=environment_of(devops, tmp_path), capture_output=True, check=False, timeout=120,
            cwd=tmp_path,
        )  # fmt: skip
    assert devops.refused
    assert imds_emulator.requests == []


def test_hvac_signs_in(imds_emulator: Emulator, tmp_path: Path) -> None:
    hvac = pytest.importorskip("hvac")
    with FakeVault.running(tmp_path) as vault:
        address, certificates = vault.environment.values()
        client = hvac.Client(address, verify=certificates)
        client.auth.azure.login(**azure_login("my-role"))
        assert client.token == VAULT_TOKEN
        client.token = None
        client.login("/v1/auth/azure/login", json=azure_login("my-role"))
        assert client.token == VAULT_TOKEN
        client.adapter.close()
    assert [path for path, _, _ in vault.logins] == ["/v1/auth/azure/login"] * 2
    assert vault.logins[0][2] == vault.logins[1][2]
    assert {"jwt", "vm_name"} < vault.logins[0][2].keys()

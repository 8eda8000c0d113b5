"""The snippets for other languages in docs/emulator.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from interop_support import require_node, require_part

from markdown_blocks import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from imds_identity.emulator import Emulator

pytestmark = pytest.mark.interop
PAGE = "docs/emulator.md"
JAVA_STAND_INS = {
    "com/azure/core/credential/AccessToken.java": "public class AccessToken {"
    " public java.time.OffsetDateTime getExpiresAt() { return null; } }",
    "com/azure/core/credential/TokenRequestContext.java": "public class TokenRequestContext {"
    " public TokenRequestContext addScopes(String... scopes) { return this; } }",
    "com/azure/identity/ManagedIdentityCredential.java": "import com.azure.core.credential.*;"
    " public class ManagedIdentityCredential {"
    " public AccessToken getTokenSync(TokenRequestContext request) { return null; } }",
    "com/azure/identity/ManagedIdentityCredentialBuilder.java": "public class"
    " ManagedIdentityCredentialBuilder {"
    " public ManagedIdentityCredential build() { return null; } }",
}
SDK = "github.com/Azure/azure-sdk-for-go/sdk"
GO_STAND_INS = {
    "azcore/policy/policy.go": "package policy\n\n"
    "type TokenRequestOptions struct{ Scopes []string }",
    "azidentity/azidentity.go": f"""package azidentity

import (
    "context"
    "time"

    "{SDK}/azcore/policy"
)

type AccessToken struct{{ ExpiresOn time.Time }}
type Credential struct{{}}
type Options struct{{}}

func NewManagedIdentityCredential(*Options) (*Credential, error) {{
    return nil, nil
}}

func (*Credential) GetToken(context.Context, policy.TokenRequestOptions) (AccessToken, error) {{
    return AccessToken{{}}, nil
}}
""",
}


def snippet(language: str, containing: str) -> str:
    [text] = [block.text for block in blocks(PAGE, language) if containing in block.text]
    return text


def write_all(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def require_program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def test_javascript_gets_a_token(imds_emulator: Emulator, tmp_path: Path) -> None:
    packages = require_part("npm") / "npm" / "node_modules"
    (tmp_path / "node_modules").symlink_to(packages, target_is_directory=True)
    (tmp_path / "token.mjs").write_text(snippet("js", "getToken"))
    subprocess.run([require_node(), "token.mjs"], cwd=tmp_path, check=True, timeout=60)
    assert [request.status for request in imds_emulator.token_requests][-1:] == [200]


def test_curl_gets_a_token(imds_emulator: Emulator) -> None:
    require_program("curl")
    script = snippet("sh", "-d api-version=")
    output = subprocess.check_output(["sh", "-c", script], env=dict(os.environ), timeout=60)
    assert json.loads(output)["token_type"] == "Bearer"
    assert len(imds_emulator.token_requests) == 1


def test_java_compiles(tmp_path: Path) -> None:
    compiler = require_program("javac")
    sources = {
        name: f"package {os.path.dirname(name).replace('/', '.')}; {text}"
        for name, text in JAVA_STAND_INS.items()
    }
    write_all(tmp_path, {**sources, "Token.java": snippet("java", "getTokenSync")})
    command = [compiler, "-Xlint:all", "-Werror", "-sourcepath", ".", "Token.java"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)


def test_go_compiles_and_is_formatted(tmp_path: Path) -> None:
    go = require_program("go")
    code = snippet("go", "azidentity")
    modules = ("azcore", "azidentity")
    needed = "".join(f"require {SDK}/{name} v0.0.0\n" for name in modules)
    replaced = "".join(f"replace {SDK}/{name} => ./{name}\n" for name in modules)
    write_all(
        tmp_path,
        {
            **GO_STAND_INS,
            **{f"{name}/go.mod": f"module {SDK}/{name}\n" for name in modules},
            "go.mod": f"module example\n\ngo 1.19\n\n{needed}{replaced}",
            "main.go": code,
        },
    )
    environment = {
        **os.environ,
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
        "GOCACHE": f"{tmp_path}/c",
    }
    subprocess.run([go, "vet", "."], cwd=tmp_path, env=environment, check=True, timeout=300)
    formatted = subprocess.check_output([go + "fmt"], input=code, text=True)
    assert formatted == code

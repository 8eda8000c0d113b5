"""Templates of fake programs, with the placeholders `{python}` and `{log}`."""

from __future__ import annotations

# A server is stopped as soon as it has printed that it is serving.
IMDS_IDENTITY = """#!{python}
import subprocess, sys
command = [sys.executable, "-m", "imds_identity", *sys.argv[1:]]
if sys.argv[1] not in ("serve", "emulator") or {{"--print-env", "--help"}} & {{*sys.argv}}:
    sys.exit(subprocess.run(command).returncode)
with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
    output = server.stderr.readline()
    server.terminate()
    output += server.stderr.read()
sys.stderr.buffer.write(output)
sys.exit(0 if server.returncode in (0, -15, 143) else 1)
"""

# The packages are installed already, but each extra must exist.
PIP = """#!{python}
import re, sys
from importlib.metadata import metadata
extras = {{*metadata("imds-identity").get_all("Provides-Extra")}}
for requirement in sys.argv[2:]:
    match = re.fullmatch(r"imds-identity(?:\\[(.*)\\])?", requirement)
    if match and not {{*filter(None, (match[1] or "").split(","))}} <= extras:
        sys.exit(f"unknown extra: {{requirement}}")
"""

# The interpreter of the tests, under the name that pages use.
PYTHON = """#!/bin/sh
exec {python} "$@"
"""

# A driver whose database checks only the token.
PYODBC = """
import base64, json, struct

class Connection:
    def __init__(self, text, attrs_before):
        packed = attrs_before[1256]
        size, = struct.unpack("<I", packed[:4])
        assert len(packed) == 4 + size, "the length is wrong"
        claims = packed[4:].decode("utf-16-le").split(".")[1]
        self.claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
        assert self.claims["aud"] == "https://database.windows.net", self.claims
        forbidden = ("uid=", "pwd=", "authentication=", "trusted_connection=")
        assert not any(word in text.lower() for word in forbidden), text

    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None
    execute = lambda self, _: self
    fetchone = lambda self: (self.claims["oid"],)

connect = Connection
paramstyle, version, Cursor = "qmark", "5.2", object  # for SQLAlchemy
"""

# Requests a token from the endpoint that App Service documents, and records its call.
RECORDING_PROGRAM = """#!{python}
import json, os, sys, urllib.request
call = {{"argv": [os.path.basename(sys.argv[0]), *sys.argv[1:]], "resource": None}}
call["password"] = os.environ.get("PASSWORD")
if "IDENTITY_ENDPOINT" in os.environ:
    url = os.environ["IDENTITY_ENDPOINT"]
    url += "?api-version=2019-08-01&resource=https://management.azure.com/"
    headers = {{"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]}}
    response = urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    call["resource"] = json.load(response)["resource"]
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + "\\n")
"""

"""Programs of a world without Azure, as text: `{python}` and `{log}` are filled in."""

from __future__ import annotations

# What runs until somebody stops it is stopped once it has said that it serves.
IMDS_IDENTITY = """#!{python}
import subprocess, sys
command = [sys.executable, "-m", "imds_identity", *sys.argv[1:]]
if sys.argv[1] not in ("serve", "emulator") or {{"--print-env", "--help"}} & {{*sys.argv}}:
    sys.exit(subprocess.run(command).returncode)
with subprocess.Popen(command, stderr=subprocess.PIPE) as serving:
    said = serving.stderr.readline()
    serving.terminate()
    said += serving.stderr.read()
sys.stderr.buffer.write(said)
sys.exit(0 if serving.returncode in (0, -15, 143) else 1)
"""

# What is installed already is not installed again, but an extra must be one that there is.
PIP = """#!{python}
import re, sys
from importlib.metadata import metadata
extras = {{*metadata("imds-identity").get_all("Provides-Extra")}}
for given in sys.argv[2:]:
    named = re.fullmatch(r"imds-identity(?:\\[(.*)\\])?", given)
    if named and not {{*filter(None, (named[1] or "").split(","))}} <= extras:
        sys.exit(f"there is no {{given}}")
"""

# The interpreter of the tests, by the name that pages call it.
PYTHON = """#!/bin/sh
exec {python} "$@"
"""

# A driver whose database looks at the token and at nothing else.
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
"""

# What other programs do with a token endpoint of their own, as App Service documents it.
STAND_IN = """#!{python}
import json, os, sys, urllib.request
said = {{"argv": [os.path.basename(sys.argv[0]), *sys.argv[1:]], "resource": None}}
said["password"] = os.environ.get("PASSWORD")
if "IDENTITY_ENDPOINT" in os.environ:
    url = os.environ["IDENTITY_ENDPOINT"]
    url += "?api-version=2019-08-01&resource=https://management.azure.com/"
    headers = {{"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]}}
    answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers))
    said["resource"] = json.load(answer)["resource"]
with open({log!r}, "a") as log:
    log.write(json.dumps(said) + "\\n")
"""

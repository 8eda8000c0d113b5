"""Run a recipe of docs/recipes.md with some host names redirected to local ports.

python recipe.py RECIPE [HOST=PORT ...]
"""

from __future__ import annotations

import os
import runpy
import socket
import sys

import certifi

recipe, *redirections = sys.argv[1:]
PORTS = dict(each.split("=") for each in redirections)
resolve = socket.getaddrinfo


def resolve_locally(host, port, *args, **kwargs):
    if host in PORTS:
        host, port = "127.0.0.1", int(PORTS[host])
    return resolve(host, port, *args, **kwargs)


socket.getaddrinfo = resolve_locally
# Clients of AMQP use no other certificates.
certifi.where = lambda: os.environ["SSL_CERT_FILE"]
runpy.run_path(recipe, run_name="__main__")

"""``python clusters FRAMEWORK WORKERS``: a cluster of workers uses one credential, as jobs.py says.

Prints as JSON what each worker has seen.
"""

from __future__ import annotations

import importlib
import json
import sys

from jobs import SCOPE, arrive, see_it_replaced, token_digest

from imds_identity import ManagedIdentityCredential


def work(cluster):
    """All ask at once, outlive a token, end, and those that are started in their place ask."""
    credential = ManagedIdentityCredential()
    cluster.each(arrive)
    found = {"outlived": cluster.each(see_it_replaced, credential)}
    found["before"] = cluster.each(token_digest, credential)
    cluster.restart()
    found["after"] = cluster.each(token_digest, credential)
    token = credential.get_token(SCOPE).token
    found["a token is pickled"] = token.encode() in cluster.dumps(credential)
    return found


if __name__ == "__main__":
    framework, workers = sys.argv[1:]
    with importlib.import_module(f"{framework}_cluster").cluster(int(workers)) as cluster:
        found = work(cluster)
    print(json.dumps(found))

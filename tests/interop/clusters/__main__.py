"""``python clusters FRAMEWORK WORKERS``: run the jobs of jobs.py on the workers of a cluster.

Prints the results of all workers as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys

from jobs import SCOPE, import_dependencies, token_digest, wait_for_renewal

from imds_identity import ManagedIdentityCredential


def run_jobs(cluster):
    """Request tokens on all workers, wait for a renewal, restart the workers, and request again."""
    credential = ManagedIdentityCredential()
    cluster.run(import_dependencies)
    results = {"renewed": cluster.run(wait_for_renewal, credential)}
    results["before"] = cluster.run(token_digest, credential)
    cluster.restart()
    results["after"] = cluster.run(token_digest, credential)
    token = credential.get_token(SCOPE).token
    results["token is pickled"] = token.encode() in cluster.dumps(credential)
    return results


if __name__ == "__main__":
    framework, workers = sys.argv[1:]
    with importlib.import_module(f"{framework}_cluster").cluster(int(workers)) as cluster:
        results = run_jobs(cluster)
    print(json.dumps(results))

"""``python crews FRAMEWORK WORKERS``: a crew of workers uses one credential, as errands.py says.

Prints as JSON what each worker has seen.
"""

from __future__ import annotations

import importlib
import json
import sys

from errands import SCOPE, arrive, see_it_replaced, visit

from imds_identity import ManagedIdentityCredential


def work(crew):
    """All ask at once, outlive a token, end, and those that are started in their place ask."""
    credential = ManagedIdentityCredential()
    crew.each(arrive)
    found = {"outlived": crew.each(see_it_replaced, credential)}
    found["before"] = crew.each(visit, credential)
    crew.restart()
    found["after"] = crew.each(visit, credential)
    token = credential.get_token(SCOPE).token
    found["a token is pickled"] = token.encode() in crew.dumps(credential)
    return found


if __name__ == "__main__":
    framework, workers = sys.argv[1:]
    with importlib.import_module(f"{framework}_crew").crew(int(workers)) as crew:
        found = work(crew)
    print(json.dumps(found))

"""`celery_client.py TASK...`: run tasks of celery_app at the same time; print their results."""

from __future__ import annotations

import json
import sys

import celery_app

if __name__ == "__main__":
    results = [getattr(celery_app, name).delay() for name in sys.argv[1:]]
    print(json.dumps([result.get(timeout=30, interval=0.02) for result in results]))

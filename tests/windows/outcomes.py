"""Summarize results: `outcomes.py RESULTS MINIMUM`; fails if fewer than MINIMUM tests passed."""

from __future__ import annotations

import sys
from collections import Counter
from xml.etree import ElementTree as ET

results, minimum = sys.argv[1:]
outcomes: Counter[str] = Counter()
reasons: Counter[str] = Counter()
for case in ET.parse(results).iter("testcase"):
    kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
    outcomes.update(kinds or {"passed"})
    reasons.update(skip.get("message", "") for skip in case.iter("skipped"))
for reason, count in reasons.most_common():
    print(f"{count:5} skipped: {reason}")
print("under wine:", ", ".join(f"{count} {kind}" for kind, count in sorted(outcomes.items())))
if outcomes["passed"] < int(minimum):
    sys.exit(f"fewer than {minimum} tests passed")

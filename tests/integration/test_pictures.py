"""Pictures of what the program says show what it says."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from markdown_blocks import ROOT

TEXT = "{http://www.w3.org/2000/svg}text"


def without_ports(line: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", line)


def test_the_recorded_demo_is_what_the_demo_prints(ran: Any) -> None:
    picture = ET.parse(ROOT / "docs/images/demo.svg")
    first, *shown, prompt = ["".join(line.itertext()) for line in picture.iter(TEXT)]
    status, said, _ = ran("demo")
    assert (status, first, prompt) == (0, "$ imds-identity demo", "$ ")
    assert list(map(without_ports, shown)) == list(map(without_ports, said.splitlines()))

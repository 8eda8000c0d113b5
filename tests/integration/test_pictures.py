"""The recorded terminal session shows the current output."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from markdown_blocks import ROOT

TEXT = "{http://www.w3.org/2000/svg}text"


def replace_ports(line: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", line)


def test_recorded_demo_equals_the_output_of_demo(run_cli: Any) -> None:
    picture = ET.parse(ROOT / "docs/images/demo.svg")
    first, *recorded, prompt = ["".join(line.itertext()) for line in picture.iter(TEXT)]
    status, output, _ = run_cli("demo")
    assert (status, first, prompt) == (0, "$ imds-identity demo", "$ ")
    assert list(map(replace_ports, recorded)) == list(map(replace_ports, output.splitlines()))

"""Tests of the sdist and the wheel; a package, so that its conftest has a unique module name."""

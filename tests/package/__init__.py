"""Tests of what is published: a package, so that its conftest has a name of its own."""

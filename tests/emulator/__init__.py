"""Tests of the emulator; a package, so that its conftest does not clash with another one."""

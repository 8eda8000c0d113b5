"""Texts about checks and error codes."""

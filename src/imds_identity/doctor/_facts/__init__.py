"""Gather the facts that the checks read, without changing anything on the machine."""

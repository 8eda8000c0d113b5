"""The soak: every fault at once, for minutes, and a table with zeros in it. ``make soak``."""

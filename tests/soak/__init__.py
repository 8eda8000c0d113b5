"""The soak test: many faults at once for minutes; rule violations must be zero. ``make soak``."""

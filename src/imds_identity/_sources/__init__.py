"""Token sources: one specification, and one exchange, per kind of host."""

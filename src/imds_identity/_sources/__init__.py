"""Where tokens come from: one exchange per service."""

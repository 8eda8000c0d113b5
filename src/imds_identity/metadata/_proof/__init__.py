"""Attested documents, and what it takes to believe one."""

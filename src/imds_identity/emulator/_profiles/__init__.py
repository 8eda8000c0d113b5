"""The kinds of host with their endpoints, and the handling of their requests."""

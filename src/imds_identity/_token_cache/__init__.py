"""Tokens for an identity and a resource: from memory, another process or the service."""

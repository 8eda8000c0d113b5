"""The token cache: returns tokens from memory, from another process or from the service."""

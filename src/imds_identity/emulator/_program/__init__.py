"""``imds-identity emulator``."""

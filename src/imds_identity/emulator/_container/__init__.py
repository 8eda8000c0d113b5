"""The emulator in a container, for tests with testcontainers."""

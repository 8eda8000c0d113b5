"""The state of the emulated machine and its operations."""

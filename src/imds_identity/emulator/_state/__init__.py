"""The state of an emulator."""

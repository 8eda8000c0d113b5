"""The keys and certificates of the emulator."""

"""Keys and certificates that the emulator makes itself."""

"""The page and the API that a person steers the emulator by."""

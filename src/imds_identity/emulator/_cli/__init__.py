"""The emulator on the command line, with its flags and its file."""

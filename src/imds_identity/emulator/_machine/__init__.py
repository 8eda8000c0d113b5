"""The emulated machine: values that do not change while the emulator runs."""

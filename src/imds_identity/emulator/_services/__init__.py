"""The emulated endpoints, one module each."""

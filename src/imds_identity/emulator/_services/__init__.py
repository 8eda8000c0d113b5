"""What the emulated machine serves: one file an endpoint."""

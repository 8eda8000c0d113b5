"""Values and pure functions, without I/O. Of this package it imports only `_platform`."""

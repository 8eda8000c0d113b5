"""Values and pure functions, without I/O. Imports nothing else of this package but `_platform`."""

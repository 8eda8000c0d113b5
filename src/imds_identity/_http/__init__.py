"""HTTP exchanges without I/O, and the runner and the transport that execute them."""

"""HTTP: exchanges without I/O, and the runner and transport that execute them."""

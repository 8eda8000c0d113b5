"""The one HTTP path: exchanges that do no I/O, and what runs them."""

"""A token endpoint on this machine, for programs in other languages."""

"""A local token endpoint for programs in other languages."""

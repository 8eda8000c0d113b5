"""What answers "a token for this identity and this resource, now". Imports no face."""

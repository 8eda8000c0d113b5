"""The kinds of host: which endpoints each has, and the path that every request takes."""

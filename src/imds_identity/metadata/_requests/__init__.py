"""Detection of the metadata service, and requests to it."""

"""The documents of the metadata service as typed objects."""

"""Documents of the Instance Metadata Service as typed objects."""

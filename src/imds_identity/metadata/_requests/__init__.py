"""How the metadata service is found and asked."""

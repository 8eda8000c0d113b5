"""What azure-core's faces have in common."""

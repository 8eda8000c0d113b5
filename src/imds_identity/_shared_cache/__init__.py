"""What this user's processes share on one machine."""

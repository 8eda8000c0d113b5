"""Commands that use tokens against Azure's services."""

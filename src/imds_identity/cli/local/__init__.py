"""Commands that bring tokens to other programs on this machine."""

"""Azure Arc: the token exchange, and the checks of the key file and of the agent's process."""

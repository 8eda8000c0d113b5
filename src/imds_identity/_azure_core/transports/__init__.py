"""azure-core transports and policies as senders of the token cache."""

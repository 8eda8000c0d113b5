"""Sends token requests through azure-core transports and policies."""

"""Hosts of apps: they identify an app by a secret in its environment."""

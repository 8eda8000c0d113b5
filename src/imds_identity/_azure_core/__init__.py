"""Types, keywords, policies and transports of azure-core, for the sync and async credential."""

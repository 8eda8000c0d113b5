"""The token cache, leases and rate limits that the processes of one user share."""

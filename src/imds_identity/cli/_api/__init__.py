"""An HTTP client for Azure's REST APIs, for the commands ``rest``, ``secret`` and ``exec``."""

"""The HTTP server that services stand on."""

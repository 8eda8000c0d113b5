"""Scheduled events: their documents, the watcher, and commands that run for changes."""

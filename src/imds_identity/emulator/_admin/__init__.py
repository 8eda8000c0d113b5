"""The admin page and API, which show and change an emulator while it runs."""

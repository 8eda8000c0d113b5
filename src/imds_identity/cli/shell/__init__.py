"""Commands that tell shells and people about the commands; all is read from their parsers."""

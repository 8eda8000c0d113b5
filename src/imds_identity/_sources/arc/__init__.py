"""Azure Arc: a challenge that names a key file, and the process that may receive its content."""

"""Access to the operating system: clocks, environment variables, files, threads and forks."""

"""What the interpreter and the system give: time, variables, threads and forks."""

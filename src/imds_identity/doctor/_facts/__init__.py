"""What the doctor looks at, and how it is gathered without changing anything."""

"""What the emulated machine is: values that do not change while it runs."""

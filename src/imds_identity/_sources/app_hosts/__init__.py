"""App platforms, such as App Service: a secret in its environment identifies an app."""

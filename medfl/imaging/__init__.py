"""From a file on disk to a `Volume`, and back."""

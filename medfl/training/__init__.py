"""One site's part of one round."""

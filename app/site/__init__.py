"""A hospital's side: settings, setting up, supervision."""

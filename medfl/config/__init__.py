"""Every setting of a run: frozen, closed, checked; data, never code."""

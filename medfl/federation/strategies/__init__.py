"""How updates become one model: one strategy, one file."""

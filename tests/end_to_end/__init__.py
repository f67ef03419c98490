"""Whole runs, with real processes where there are any."""

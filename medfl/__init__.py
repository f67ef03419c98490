"""Federated learning for medical imaging that measures what leaks."""

__version__ = "0.1.0"

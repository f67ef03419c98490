"""Exact pooled metrics: sites send additive measures, the hub adds and finishes them."""

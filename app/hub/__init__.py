"""The coordinator of a federation: one port outside, Flower and its programs inside."""

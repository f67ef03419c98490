"""What crosses the wire between hub and sites, and who may say what."""

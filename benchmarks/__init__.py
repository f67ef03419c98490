"""One script per claim: prints a table, writes JSON."""

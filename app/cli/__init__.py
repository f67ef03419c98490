"""The command line: verb and noun, a few lines each."""

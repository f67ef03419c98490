"""What a run leaves behind: plain values, readable without torch."""

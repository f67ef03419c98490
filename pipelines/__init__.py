"""medfl's rooms composed into tasks, and into one Flower app."""

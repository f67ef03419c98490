"""How far from guessing a null control may come."""

from medfl.results.attack import AttackResult

NORMAL = 1.959963984540054
"""Half the width of a 95 % interval, in standard errors."""

HIGHEST_Z = 2.576
"""Two-sided 1 %: of five independent nulls one in twenty leaves by chance."""


def from_chance(found: AttackResult) -> float:
    """Return the distance from the attack's chance level in standard errors, >= 0, read off its interval."""
    error = (found.ci_high - found.ci_low) / (2 * NORMAL)
    return abs(found.value - found.chance) / max(error, 1e-12)

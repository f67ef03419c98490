"""Curves of a report that are read off finished attacks."""

from collections.abc import Sequence

from medfl.attacks.feature_inversion import KNOWN_IMAGES
from medfl.results.attack import AttackResult
from medfl.results.report import Curve


def anchor_curves(attacks: Sequence[AttackResult]) -> tuple[Curve, ...]:
    """Return what each attacker finds against the number of images it knows.

    Parameters
    ----------
    attacks : sequence of AttackResult
        Those that say how many images they know (`KNOWN_IMAGES` among `further`) count; others are passed over.

    Returns
    -------
    tuple of Curve
        Of kind "anchors"; one for each attacker and metric with several numbers of images, in the order of the attacks.
    """
    found: dict[tuple[str, str, str], dict[float, AttackResult]] = {}
    for attack in attacks:
        known = next((one.value for one in attack.further if one.name == KNOWN_IMAGES), None)
        if known is not None:
            found.setdefault((attack.family, attack.name, attack.metric), {})[known] = attack
    return tuple(
        Curve(
            name=f"{family}: {name}",
            kind="anchors",
            x=tuple(sorted(points)),
            y=tuple(points[known].value for known in sorted(points)),
            y_low=tuple(points[known].ci_low for known in sorted(points)),
            y_high=tuple(points[known].ci_high for known in sorted(points)),
            metric=metric,
        )
        for (family, name, metric), points in found.items()
        if len(points) > 1
    )

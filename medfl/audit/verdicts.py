"""From attacks and controls to three verdicts."""

import math
from collections.abc import Sequence

from medfl.attacks.rates import subjects_for_margin
from medfl.audit.nulls import NORMAL
from medfl.audit.wording import reason_text
from medfl.governance.policy import QUESTION_FAMILIES, AuditPolicy, limit_of, question_of
from medfl.results.attack import AttackResult
from medfl.results.report import FamilyOutcome, Question, ReasonCode, Status, Verdict

Answer = tuple[Status, ReasonCode, tuple[str, ...], AttackResult | None]
_QUESTIONS: tuple[Question, ...] = ("singling out", "linkability", "inference")


def verdicts(families: Sequence[FamilyOutcome], policy: AuditPolicy) -> tuple[Verdict, ...]:
    """Answer the three questions.

    A family whose null control finds something is void: nothing it says counts. A headline attack of any other family
    whose interval lies over its margin makes the answer "above margin". "Below margin" takes every family of the
    question run in full or not applicable, all controls passed, and every headline's interval under its margin; as all
    must be under, no correction for several attacks is needed. Everything else is "inconclusive", or "invalid" where
    the only thing in the way is a void family.

    Parameters
    ----------
    families : sequence of FamilyOutcome
    policy : AuditPolicy
    """
    return tuple(_verdict(question, families, policy) for question in _QUESTIONS)


def is_void(family: FamilyOutcome) -> bool:
    """Tell whether a null control found something where nothing is: then the measurement leaks, not the release."""
    return any(control.kind == "null" and control.passed is False for control in family.controls)


def is_weak(family: FamilyOutcome) -> bool:
    """Tell whether a positive control failed or is missing: then silence means nothing."""
    positive = [control for control in family.controls if control.kind == "positive"]
    return not positive or any(control.passed is not True for control in positive)


def furthest(headlines: Sequence[AttackResult], policy: AuditPolicy) -> AttackResult | None:
    """Return the attack furthest over its margin, or nearest to it; None of none.

    Distances are in units of the way from the baseline to the margin. Of several attacks the worst is shown: its value
    is a little too high by chance, on the safe side.

    Parameters
    ----------
    headlines : sequence of AttackResult
        Each with a metric that has a margin.
    policy : AuditPolicy
    """
    return max(headlines, key=lambda attack: _over(attack, policy), default=None)


def _verdict(question: Question, families: Sequence[FamilyOutcome], policy: AuditPolicy) -> Verdict:
    named = QUESTION_FAMILIES[question]
    own = [family for family in families if family.family in named]
    void = [family for family in own if is_void(family)]
    headlines = [
        family.attacks[index]
        for family in own
        if family not in void
        for index in family.headline
        if question_of(family.family, family.attacks[index].metric) == question
    ]
    strongest = furthest(headlines, policy)
    status, code, arguments, wide = _answer(named, own, void, headlines, policy)
    return Verdict(
        question=question,
        status=status,
        reason=reason_text(code, arguments, "en"),
        reason_code=code,
        reason_arguments=arguments,
        margin=_margin_text(strongest, policy),
        limit=None if strongest is None else _limit(strongest, policy),
        families=named,
        strongest="" if strongest is None else _name(strongest),
        value=None if strongest is None else strongest.value,
        ci_low=None if strongest is None else strongest.ci_low,
        ci_high=None if strongest is None else strongest.ci_high,
        subjects_needed=None if wide is None else _needed(wide, policy),
    )


def _answer(
    named: Sequence[str],
    own: Sequence[FamilyOutcome],
    void: Sequence[FamilyOutcome],
    headlines: Sequence[AttackResult],
    policy: AuditPolicy,
) -> Answer:
    """Return status, reason and, where more subjects would tell, the attack whose interval is too wide."""
    worst = furthest([attack for attack in headlines if attack.ci_low >= _limit(attack, policy)], policy)
    if worst is not None:
        return "above margin", "over margin", (_name(worst),), None
    if void:
        return "invalid", "void", _names(void), None
    missing = [name for name in named if name not in {family.family for family in own}]
    missing += [family.family for family in own if family.status in ("not run", "failed")]
    missing += [f"{family.family} by {what}" for family in own for what in family.not_tried]
    if missing:
        return "inconclusive", "not run", tuple(missing), None
    weak = [family for family in own if family.status == "run" and is_weak(family)]
    if weak:
        return "inconclusive", "weak", _names(weak), None
    if not headlines:
        return "inconclusive", "nothing to attack", (), None
    wide = _wide(headlines, policy)
    if wide is not None:
        return "inconclusive", "too few", (_name(wide),), wide
    return "below margin", "under margin", (), None


def _wide(headlines: Sequence[AttackResult], policy: AuditPolicy) -> AttackResult | None:
    """Return the attack furthest over its margin among those whose interval reaches over it."""
    return furthest([attack for attack in headlines if not attack.ci_high < _limit(attack, policy)], policy)


def _limit(attack: AttackResult, policy: AuditPolicy) -> float:
    return limit_of(policy, attack.family, attack.metric, attack.chance)


def _over(attack: AttackResult, policy: AuditPolicy) -> float:
    """Return how far over the margin, in units of the way from the baseline to the margin."""
    limit = _limit(attack, policy)
    over = (attack.value - limit) / max(limit - attack.chance, 1e-9)
    return over if math.isfinite(over) else math.inf


def _needed(attack: AttackResult, policy: AuditPolicy) -> int | None:
    spread = (attack.ci_high - attack.ci_low) / (2 * NORMAL)
    distance = abs(_limit(attack, policy) - attack.value)
    if spread <= 0 or distance <= 0:
        return None
    return max(attack.subjects + 1, subjects_for_margin(spread, attack.subjects, distance))


def _margin_text(attack: AttackResult | None, policy: AuditPolicy) -> str:
    if attack is None:
        return "no attack"
    return f"{attack.metric} of {attack.family} under {_limit(attack, policy):.2f}"


def _name(attack: AttackResult) -> str:
    return f"{attack.family}: {attack.name}" + (f" ({attack.setting})" if attack.setting else "")


def _names(families: Sequence[FamilyOutcome]) -> tuple[str, ...]:
    return tuple(family.family for family in families)

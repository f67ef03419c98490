import numpy as np
import pytest
from pydantic import ValidationError

from medfl.audit.verdicts import furthest, verdicts
from medfl.audit.wording import reason_text
from medfl.governance.policy import QUESTION_FAMILIES, AuditPolicy
from medfl.results.report import FamilyOutcome, Verdict
from tests.audit.reports import attack, family, idle, report


def linkability(*families: FamilyOutcome) -> Verdict:
    given = {one.family for one in families}
    rest = [idle(name) for name in QUESTION_FAMILIES["linkability"] if name not in given]
    return next(one for one in verdicts([*families, *rest], AuditPolicy()) if one.question == "linkability")


def test_an_interval_under_the_margin_with_all_controls_passed_is_below_margin() -> None:
    assert linkability(family("re-identification", attack(0.51))).status == "below margin"


def test_an_interval_over_the_margin_is_above_margin() -> None:
    assert linkability(family("re-identification", attack(0.7))).status == "above margin"


def test_an_interval_that_touches_the_margin_is_inconclusive_with_the_number_of_subjects_needed() -> None:
    found = linkability(family("re-identification", attack(0.54)))
    assert found.status == "inconclusive"
    assert found.subjects_needed is not None
    assert found.subjects_needed > 100


def test_a_failed_null_control_makes_the_answer_invalid_and_its_attacks_count_for_nothing() -> None:
    assert linkability(family("re-identification", attack(0.9), null=False)).status == "invalid"


def test_a_failed_positive_control_makes_silence_inconclusive() -> None:
    assert linkability(family("re-identification", attack(0.5), positive=False)).status == "inconclusive"


def test_a_positive_control_that_is_missing_makes_silence_inconclusive() -> None:
    quiet = family("re-identification", attack(0.5)).model_copy(update={"controls": ()})
    assert linkability(quiet).status == "inconclusive"


def test_a_finding_stands_though_the_positive_control_failed() -> None:
    assert linkability(family("re-identification", attack(0.9), positive=False)).status == "above margin"


@pytest.mark.parametrize("status", ["not run", "failed"])
def test_a_family_that_was_not_run_forbids_below_margin(status: str) -> None:
    found = linkability(family("re-identification", attack(0.5)), idle("linkage", status))
    assert found.status == "inconclusive"
    assert "linkage" in found.reason
    assert found.subjects_needed is None


def test_a_part_of_a_family_that_was_not_tried_forbids_below_margin() -> None:
    partly = family("re-identification", attack(0.5)).model_copy(update={"not_tried": ("something stronger",)})
    found = linkability(partly)
    assert found.status == "inconclusive"
    assert "something stronger" in found.reason


def test_a_family_that_nobody_reports_forbids_below_margin() -> None:
    (found,) = [v for v in verdicts([family("re-identification", attack(0.5))], AuditPolicy()) if "link" in v.question]
    assert found.status == "inconclusive"


def test_a_finding_in_one_family_outweighs_a_void_other() -> None:
    other = attack(0.8, family="linkage")
    found = linkability(family("re-identification", attack(0.5), null=False), family("linkage", other))
    assert found.status == "above margin"


def test_an_attribute_is_judged_by_its_excess_over_the_class_label() -> None:
    told = attack(0.80, family="attributes", chance=0.79, half=0.01)
    rest = [idle("membership"), idle("released sums"), family("attributes", told)]
    found = next(one for one in verdicts(rest, AuditPolicy()) if one.question == "inference")
    assert found.status == "below margin"


def test_nothing_that_could_be_attacked_is_inconclusive_and_never_below_margin() -> None:
    assert {one.status for one in verdicts([], AuditPolicy())} == {"inconclusive"}
    idle_all = [idle(name) for names in QUESTION_FAMILIES.values() for name in names]
    assert {one.status for one in verdicts(idle_all, AuditPolicy())} == {"inconclusive"}


def test_no_interval_is_both_below_and_above() -> None:
    for value in np.linspace(0.4, 0.7, 31):
        one = attack(float(value), half=0.0)
        expected = "above margin" if value >= 0.55 else "below margin"
        assert linkability(family("re-identification", one)).status == expected


def test_anonymous_is_never_a_status() -> None:
    facts = report().verdicts[0].model_dump()
    with pytest.raises(ValidationError):
        Verdict.model_validate(facts | {"status": "anonymous"})


def test_every_answer_says_its_reason_as_a_code_too() -> None:
    cases = {
        "over margin": [family("re-identification", attack(0.7))],
        "void": [family("re-identification", attack(0.5), null=False)],
        "not run": [family("re-identification", attack(0.5)), idle("linkage", "failed")],
        "weak": [family("re-identification", attack(0.5), positive=False)],
        "nothing to attack": [],
        "too few": [family("re-identification", attack(0.54))],
        "under margin": [family("re-identification", attack(0.51))],
    }
    for code, families in cases.items():
        found = linkability(*families)
        assert found.reason_code == code
        assert found.reason == reason_text(code, found.reason_arguments, "en")
        assert found.limit == (None if found.strongest == "" else 0.55)


def test_the_furthest_attack_is_counted_in_steps_from_its_own_baseline_to_its_margin() -> None:
    linked, named = attack(0.6), attack(0.12, metric="rank_1", chance=0.01)
    assert furthest([linked, named], AuditPolicy()) == linked
    assert furthest([], AuditPolicy()) is None

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from medfl.data.phantoms import make_phantoms
from medfl.governance.approvals import Approvals
from medfl.governance.audit_log import AuditLog
from medfl.governance.plan import read_plan
from pipelines.flower_bundle import bundle_sha256

WHY = (
    "--protocol", "Ethics vote 12/2026", "--legal-basis", "Consent, version 3", "--purpose", "Segmentation",
    "--contact", "Data office", "--expires", "2999-12-31", "--sites", "north, south",
)  # fmt: skip
Medfl = Callable[..., Any]


@pytest.fixture
def plan(medfl: Medfl, tiny: Path, tmp_path: Path) -> Path:
    made = medfl("plan", "create", tiny, "--out", tmp_path / "plan.json", *WHY)
    assert made.code == 0, made.err
    return tmp_path / "plan.json"


@pytest.fixture
def state(medfl: Medfl, tmp_path: Path) -> Path:
    manifest = tmp_path / "data"
    make_phantoms(
        manifest, dimensions=2, subjects=30, visits=2, sites=1, task="segmentation", seed=0, fractions=(0.5, 0.2, 0.3)
    )
    arguments = ("--name", "north", "--manifest", manifest / "manifest.csv", "--by", "Jo Admin")
    assert medfl("site", "init", tmp_path / "state", *arguments).code == 0
    return tmp_path / "state"


def policy(state: Path, **changes: object) -> None:
    path = state / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["policy"] |= changes
    path.write_text(yaml.safe_dump(settings))


def operations(state: Path) -> list[tuple[str, str]]:
    return [(entry.operation, entry.reason) for entry in AuditLog(state / "audit.jsonl").entries()][1:]


def shown(medfl: Medfl, *arguments: object) -> dict[str, Any]:
    found = medfl("plan", "show", *arguments, "--json")
    assert found.code == 0, found.err
    value: dict[str, Any] = json.loads(found.out)
    return value


def test_a_plan_is_made_once(medfl: Medfl, plan: Path, tiny: Path) -> None:
    assert read_plan(plan).sites == ("north", "south")
    again = medfl("plan", "create", tiny, "--out", plan, *WHY)
    assert (again.code, "new file" in again.err) == (3, True)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [("--sites", "", "sites"), ("--sites", "a,a", "once"), ("--contact", "a\nb", "contact")],
)
def test_a_plan_that_does_not_fit_is_not_made(
    medfl: Medfl, tiny: Path, tmp_path: Path, option: str, value: str, named: str
) -> None:
    arguments = [value if before == option else one for before, one in zip(("", *WHY), WHY, strict=False)]
    made = medfl("plan", "create", tiny, "--out", tmp_path / "plan.json", *arguments)
    assert (made.code, named in made.err) == (3, True)
    assert not (tmp_path / "plan.json").exists()


def test_show_says_in_plain_words_what_runs_what_leaves_and_how_to_approve(medfl: Medfl, plan: Path) -> None:
    text = medfl("plan", "show", plan).out
    for words in (
        "marks a, b in 2-D images",
        "the plan brings settings and no program code",
        "These stay at the site: images, masks, pseudonyms",
        "in each of 3 rounds: the model's weights",
        "no proven guarantee: treat the weights as personal data",
        "model/backbone.",
        "float32",
        "All together at most",
        "Ends on: 2999-12-31",
        f"--sha256 {read_plan(plan).sha256()}",
    ):
        assert words in text
    assert "How many there are is shown with" in text


def test_show_counts_the_data_of_a_site_and_lists_every_array(medfl: Medfl, plan: Path, state: Path) -> None:
    text = medfl("plan", "show", plan, "--site", state, "--arrays").out
    assert "15 subjects (30 studies) for training" in text
    assert "more; all of them with --arrays" not in text
    assert "The plan is within the policy." in text
    assert "verification auc 0.55" in text
    alone = medfl("plan", "show", plan, "--manifest", state.parent / "data" / "manifest.csv").out
    assert "15 subjects (30 studies) for training" in alone


def test_show_as_json_is_one_object_with_every_array_and_the_totals(medfl: Medfl, plan: Path, state: Path) -> None:
    facts = shown(medfl, plan, "--site", state)
    assert facts["sha256"] == read_plan(plan).sha256()
    assert facts["bundle_sha256"] == bundle_sha256(read_plan(plan))
    assert facts["subjects"] == {"train": 15, "val": 6, "test": 9} or sum(facts["subjects"].values()) == 30
    train = next(reply for reply in facts["replies"] if reply["kind"] == "train")
    arrays = train["records"][0]["arrays"]
    assert train["values"] == sum(_product(array["shape"]) for array in arrays)
    assert train["times"] == 3
    assert train["guarantee"] is None
    assert facts["totals"]["planned_bytes"] == sum(r["times"] * r["max_bytes"] for r in facts["replies"])
    assert facts["objections"] == []


def _product(shape: list[int]) -> int:
    found = 1
    for extent in shape:
        found *= extent
    return found


def test_show_states_the_guarantee_of_a_private_plan(medfl: Medfl, tiny: Path, tmp_path: Path) -> None:
    private = ("--set", "privacy={kind: dp_sgd, epsilon: 8, delta: 0.001}", "--set", "network.norm=group")
    assert medfl("plan", "create", tiny, "--out", tmp_path / "p.json", *WHY, *private).code == 0
    facts = shown(medfl, tmp_path / "p.json")
    train = next(reply for reply in facts["replies"] if reply["kind"] == "train")
    assert train["guarantee"] == {"epsilon": 8.0, "delta": 0.001, "unit": "one subject", "adjacency": "add or remove"}
    assert "loss" not in {value["name"] for value in train["report"]}
    text = medfl("plan", "show", tmp_path / "p.json").out
    assert "epsilon 8, delta 0.001, add or remove one subject, over all rounds" in text


def test_a_plan_is_approved_listed_revoked_and_each_is_logged(medfl: Medfl, plan: Path, state: Path) -> None:
    digest = read_plan(plan).sha256()
    assert "Nothing is approved" in medfl("plan", "list", "--site", state).out
    done = medfl("plan", "approve", plan, "--site", state, "--by", "Jo Admin", "--sha256", digest, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["bundle_sha256"] == bundle_sha256(read_plan(plan))
    (approval,) = Approvals(state).all()
    assert (approval.approved_by, approval.plan_sha256) == ("Jo Admin", digest)
    assert approval.egress.rule("train").minimum_subjects == 5
    assert "approved" in medfl("plan", "list", "--site", state).out
    revoked = medfl("plan", "revoke", digest[:12], "--site", state, "--by", "Jo Admin")
    assert revoked.code == 0, revoked.err
    assert Approvals(state).all()[0].revoked_by == "Jo Admin"
    again = medfl("plan", "revoke", digest, "--site", state, "--by", "Jo Admin")
    assert (again.code, "revoked already" in again.err) == (8, True)
    assert operations(state) == [("plan.approve", ""), ("plan.revoke", "")]


@pytest.mark.parametrize("sha256", ["0" * 64, "", "0375"])
def test_another_plan_than_the_one_that_was_read_is_not_approved(
    medfl: Medfl, plan: Path, state: Path, sha256: str
) -> None:
    done = medfl("plan", "approve", plan, "--site", state, "--by", "Jo Admin", "--sha256", sha256)
    assert (done.code, "medfl plan show" in done.err) == (8, True)
    assert Approvals(state).all() == ()


def test_a_plan_over_the_policy_is_refused_with_every_objection(medfl: Medfl, plan: Path, state: Path) -> None:
    policy(state, tasks=["classification"], epsilon=4, minimum_subjects=20, reply_bytes=100, run_bytes=1000)
    codes = {one["code"] for one in shown(medfl, plan, "--site", state)["objections"]}
    assert codes == {"task", "epsilon", "subjects", "reply_bytes", "run_bytes"}
    text = medfl("plan", "show", plan, "--site", state).out
    assert "not allowed [epsilon]" in text
    done = medfl("plan", "approve", plan, "--site", state, "--by", "Jo", "--sha256", read_plan(plan).sha256())
    assert done.code == 8
    assert all(f"[{code}]" in done.err for code in codes)
    assert operations(state) == [("plan.refuse", "over_policy")]
    assert Approvals(state).all() == ()


def test_an_approval_ends_with_the_policy_at_the_latest(medfl: Medfl, plan: Path, state: Path) -> None:
    arguments = ("plan", "approve", plan, "--site", state, "--by", "Jo", "--sha256", read_plan(plan).sha256())
    late = medfl(*arguments, "--expires", "2998-01-01")
    assert (late.code, "365 days" in late.err) == (3, True)
    assert medfl(*arguments).code == 0
    assert Approvals(state).all()[0].expires < read_plan(plan).expires


def test_an_edited_plan_has_another_hash_and_bad_settings_are_refused(medfl: Medfl, plan: Path, state: Path) -> None:
    digest = read_plan(plan).sha256()
    content = json.loads(plan.read_text())
    content["settings"] = content["settings"].replace("rounds: 3", "rounds: 300")
    plan.write_text(json.dumps(content))
    done = medfl("plan", "approve", plan, "--site", state, "--by", "Jo", "--sha256", digest)
    assert done.code == 8
    for settings in ("name: tiny\n", content["settings"] + "extra: 1\n", content["settings"] + "# more\n"):
        plan.write_text(json.dumps(content | {"settings": settings}))
        assert medfl("plan", "show", plan).code == 3
    plan.write_text(json.dumps(content | {"name": "other"}))
    refused = medfl("plan", "show", plan)
    assert (refused.code, "another" in refused.err) == (3, True)

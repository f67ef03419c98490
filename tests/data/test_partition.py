from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.data.manifest import Manifest, StudyRow
from medfl.data.partition import (
    assign_splits,
    by_column,
    by_label_dirichlet,
    by_size,
    hold_out_validation,
    iid,
)
from medfl.errors import ConfigError, ManifestError

SHARES = {"site-1": 0.5, "site-2": 0.3, "site-3": 0.2}
PARTITIONS: dict[str, Callable[[Manifest, int], Manifest]] = {
    "iid": lambda manifest, seed: iid(manifest, 3, seed=seed),
    "by_size": lambda manifest, seed: by_size(manifest, SHARES, seed=seed),
    "by_label_dirichlet": lambda manifest, seed: by_label_dirichlet(manifest, 3, alpha=1.0, seed=seed),
    "splits": lambda manifest, seed: assign_splits(manifest, (0.6, 0.2, 0.2), seed=seed),
    "stratified": lambda manifest, seed: assign_splits(manifest, (0.6, 0.2, 0.2), seed=seed, stratify=True),
}


def cohort(visits: list[int], *, labels: str = "abc", site: str = "") -> Manifest:
    rows = [
        StudyRow(
            f"p{subject:03d}", f"s{subject:03d}-{visit}", site, f"{subject}-{visit}.png", labels[subject % len(labels)]
        )
        for subject, count in enumerate(visits)
        for visit in range(count)
    ]
    return Manifest(tuple(rows), Path("/nowhere"))


def subjects_by(manifest: Manifest, field: str) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for row in manifest.rows:
        groups[getattr(row, field)].add(row.subject)
    return dict(groups)


cohorts = st.lists(st.integers(1, 4), min_size=6, max_size=60).map(cohort)
seeds = st.integers(0, 2**31)


@pytest.mark.parametrize("name", PARTITIONS)
@settings(max_examples=30, deadline=None)
@given(manifest=cohorts, seed=seeds)
def test_no_subject_is_divided_and_nothing_is_lost(name: str, manifest: Manifest, seed: int) -> None:
    parted = PARTITIONS[name](manifest, seed)
    assert [replace(row, site="", split="") for row in parted.rows] == list(manifest.rows)
    field = "site" if name not in ("splits", "stratified") else "split"
    groups = subjects_by(parted, field)
    assert "" not in groups
    assert sum(len(group) for group in groups.values()) == len(manifest.subjects())


@pytest.mark.parametrize("name", PARTITIONS)
@settings(max_examples=15, deadline=None)
@given(manifest=cohorts, seed=seeds)
def test_the_same_seed_gives_the_same_partition_whatever_the_row_order(
    name: str, manifest: Manifest, seed: int
) -> None:
    turned = replace(manifest, rows=manifest.rows[::-1])
    assert PARTITIONS[name](turned, seed).digest() == PARTITIONS[name](manifest, seed).digest()


@pytest.mark.parametrize("name", PARTITIONS)
def test_another_seed_gives_another_partition(name: str) -> None:
    manifest = cohort([2] * 40)
    assert len({PARTITIONS[name](manifest, seed).digest() for seed in range(5)}) == 5


@given(manifest=cohorts, seed=seeds)
@settings(max_examples=30, deadline=None)
def test_site_shares_are_within_one_subject_of_what_was_asked(manifest: Manifest, seed: int) -> None:
    groups = subjects_by(by_size(manifest, SHARES, seed=seed), "site")
    for site, share in SHARES.items():
        assert abs(len(groups[site]) - share * len(manifest.subjects())) <= 1


def test_each_site_gets_each_split_in_the_proportion_asked() -> None:
    manifest = assign_splits(iid(cohort([1] * 60), 3, seed=0), (0.6, 0.2, 0.2), seed=0)
    for site in ("site-1", "site-2", "site-3"):
        assert Counter(row.split for row in manifest.where(site=site).rows) == {"train": 12, "val": 4, "test": 4}


def test_small_sites_still_get_every_split() -> None:
    manifest = assign_splits(cohort([1] * 3, site="A"), (0.9, 0.05, 0.05), seed=1)
    assert {row.split for row in manifest.rows} == {"train", "val", "test"}


def test_a_zero_fraction_stays_empty() -> None:
    assert "val" not in subjects_by(assign_splits(cohort([1] * 30), (0.8, 0.0, 0.2), seed=1), "split")


def test_sites_drawn_after_splits_share_each_split_evenly() -> None:
    manifest = iid(assign_splits(cohort([1] * 60), (0.5, 0.0, 0.5), seed=3), 3, seed=4)
    for site in ("site-1", "site-2", "site-3"):
        counts = Counter(row.split for row in manifest.where(site=site).rows)
        assert abs(counts["train"] - 10) <= 1
        assert abs(counts["test"] - 10) <= 1


def test_existing_splits_are_kept_unless_asked_otherwise() -> None:
    manifest = cohort([2] * 30)
    fixed = replace(manifest, rows=tuple(replace(r, split="test") if r.subject < "p010" else r for r in manifest.rows))
    kept = assign_splits(fixed, (1.0, 0.0, 0.0), seed=0)
    assert subjects_by(kept, "split")["test"] == {f"p{n:03d}" for n in range(10)}
    redrawn = assign_splits(fixed, (1.0, 0.0, 0.0), seed=0, keep_existing=False)
    assert set(subjects_by(redrawn, "split")) == {"train"}


def test_a_half_assigned_subject_takes_the_split_it_already_has() -> None:
    manifest = cohort([2] * 10)
    first = replace(manifest.rows[0], split="test")
    manifest = assign_splits(replace(manifest, rows=(first, *manifest.rows[1:])), (1.0, 0.0, 0.0), seed=0)
    assert [row.split for row in manifest.rows[:2]] == ["test", "test"]


def test_stratified_splits_hold_each_label_in_proportion() -> None:
    manifest = assign_splits(cohort([1] * 120, labels="aab"), (0.5, 0.25, 0.25), seed=2, stratify=True)
    for split, share in (("train", 0.5), ("val", 0.25), ("test", 0.25)):
        counts = Counter(row.target for row in manifest.where(split=split).rows)
        assert abs(counts["a"] - 80 * share) <= 1
        assert abs(counts["b"] - 40 * share) <= 1


def test_validation_is_held_out_of_training_alone() -> None:
    manifest = assign_splits(cohort([1] * 40), (0.5, 0.0, 0.5), seed=0)
    held = hold_out_validation(manifest, 0.2, seed=0)
    assert held.where(split="test").rows == manifest.where(split="test").rows
    assert len(held.where(split="val").rows) == 4
    assert len(held.where(split="train").rows) == 16


def test_a_sites_splits_do_not_depend_on_the_other_sites() -> None:
    both = by_size(cohort([1] * 40), {"A": 0.5, "B": 0.5}, seed=0)
    alone = assign_splits(both.where(site="A"), (0.6, 0.2, 0.2), seed=7)
    assert assign_splits(both, (0.6, 0.2, 0.2), seed=7).where(site="A").rows == alone.rows


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    manifest = cohort([1] * 300)

    def largest_share(alpha: float) -> float:
        parted = by_label_dirichlet(manifest, 3, alpha=alpha, min_subjects=5, seed=1)
        return max(
            Counter(row.target for row in parted.where(site=site).rows).most_common(1)[0][1]
            / len(parted.where(site=site).rows)
            for site in parted.sites()
        )

    assert largest_share(1e6) < 0.36
    assert largest_share(0.1) > 0.6


def test_dirichlet_keeps_the_fewest_subjects_asked_for() -> None:
    parted = by_label_dirichlet(cohort([1] * 60), 4, alpha=0.3, min_subjects=8, seed=5)
    assert min(len(group) for group in subjects_by(parted, "site").values()) >= 8


def test_real_sites_are_merged_and_checked() -> None:
    manifest = Manifest((StudyRow("p", "1", "EZ", "i", "t"), StudyRow("q", "2", "FG", "j", "t")), Path("/nowhere"))
    assert by_column(manifest, merge={"EZ": "FG"}).sites() == ("FG",)
    assert by_column(manifest).sites() == ("EZ", "FG")
    with pytest.raises(ConfigError, match="merge must name sites"):
        by_column(manifest, merge={"XX": "FG"})
    with pytest.raises(ManifestError, match="must name its site"):
        by_column(replace(manifest, rows=(*manifest.rows, StudyRow("r", "3", "", "k", "t"))))
    with pytest.raises(ManifestError, match="one site"):
        by_column(replace(manifest, rows=(*manifest.rows, StudyRow("p", "3", "FG", "k", "t"))))


@pytest.mark.parametrize(
    "broken",
    [
        lambda m: assign_splits(m, (0.5, 0.5, 0.5), seed=0),
        lambda m: assign_splits(m, (1.5, -0.5, 0.0), seed=0),
        lambda m: assign_splits(m, (float("nan"), 0.5, 0.5), seed=0),
        lambda m: assign_splits(m, (1.0, 0.0, 0.0), seed=-1),
        lambda m: hold_out_validation(m, 1.0, seed=0),
        lambda m: iid(m, 0, seed=0),
        lambda m: iid(m, 11, seed=0),
        lambda m: by_size(m, {}, seed=0),
        lambda m: by_size(m, {"A": 1.0, "B": 0.0}, seed=0),
        lambda m: by_label_dirichlet(m, 3, alpha=0.0, seed=0),
        lambda m: by_label_dirichlet(m, 3, alpha=1.0, min_subjects=4, seed=0),
        lambda m: by_label_dirichlet(m, 5, alpha=1e-6, min_subjects=2, seed=0),
        lambda m: by_label_dirichlet(replace(m, rows=(replace(m.rows[0], target="m.png"),)), 1, alpha=1.0, seed=0),
    ],
)
def test_settings_out_of_range_are_refused(broken: Callable[[Manifest], Manifest]) -> None:
    with pytest.raises(ConfigError):
        broken(cohort([1] * 10))

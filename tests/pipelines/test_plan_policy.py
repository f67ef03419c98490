"""What a site's policy objects to; plans against a whole site are in tests/app/test_cli_plan.py."""

from datetime import date

import pytest

from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.errors import PlanNotApprovedError
from medfl.governance.site_policy import SitePolicy
from pipelines.plan_egress import SiteNumbers, egress_of
from pipelines.plan_policy import Objection, objections, refuse
from pipelines.site_plan import Counts, Reasons, propose

TODAY = date(2027, 1, 5)
FEATURES = """\
name: tiny
sharing: features
preprocessing: {size: [32, 32]}
task: {kind: classification, dimensions: 2, classes: {normal: [normal], lesion: [lesion]}}
network: {kind: efficientnet_lite0, hidden: 8}
data:
  source: {kind: phantoms, dimensions: 2, subjects: 60, visits: 1, sites: 2}
  sites: {kind: column}
training: {rounds: 2}
"""
NOISED = "protection.noise={kind: gaussian, epsilon: 4, delta: 1.0e-5}"
OPEN = {"sharing": ["weights", "features"], "targets": True}


def found(config: Config, *, site: str = "north", counts: Counts | None = None, **policy: object) -> set[str]:
    plan = propose(config, Reasons("vote", "consent", "test", "office", date(2027, 6, 30)), ("north", "south"))
    judged = objections(
        plan,
        config,
        egress_of(config, SiteNumbers(studies=50)),
        SitePolicy.model_validate(policy),
        site=site,
        counts=counts,
        today=TODAY,
    )
    return {one.code for one in judged}


@pytest.fixture(scope="module")
def weights() -> Config:
    return parse_config(
        FEATURES.replace("sharing: features", "sharing: weights").replace(
            "{kind: efficientnet_lite0, hidden: 8}",
            "{kind: densenet, initial_features: 4, growth_rate: 2, block_layers: [1, 1]}",
        )
    )


def test_the_default_policy_lets_weights_pass(weights: Config) -> None:
    assert found(weights) == set()


def test_another_site_is_not_asked(weights: Config) -> None:
    assert found(weights, site="east") == {"site"}


@pytest.mark.parametrize(
    ("policy", "codes"),
    [
        ({"tasks": ["segmentation"]}, {"task"}),
        ({"sharing": ["features"]}, {"sharing"}),
        ({"privacy": ["dp_sgd"]}, {"privacy"}),
        ({"epsilon": 8}, {"epsilon"}),
        ({"reply_bytes": 10}, {"reply_bytes"}),
        ({"run_bytes": 10}, {"run_bytes"}),
    ],
)
def test_each_limit_has_its_objection(weights: Config, policy: dict[str, object], codes: set[str]) -> None:
    assert found(weights, **policy) == codes


def test_too_few_subjects_to_train_on_are_an_objection(weights: Config) -> None:
    few, enough = (Counts({"train": n, "val": 0, "test": 0}, {"train": n, "val": 0, "test": 0}) for n in (4, 5))
    assert found(weights, counts=few) == {"subjects"}
    assert found(weights, counts=enough) == set()


@pytest.mark.parametrize(
    ("overrides", "policy", "codes"),
    [
        ((), {}, {"sharing", "clear_features", "targets"}),
        ((), {**OPEN, "clear_features": True}, set()),
        (("features.head=sites",), {"sharing": ["features"]}, set()),
        (("protection.keyed={kind: knt}",), OPEN, set()),
        (("protection.noise={kind: plain, std: 1}",), OPEN, {"protectors"}),
        (("protection.keyed={kind: knt}", "protection.quantize=4"), OPEN, {"protectors"}),
        (("protection.keyed={kind: knt}",), {**OPEN, "required_protectors": ["bottleneck", "knt"]},
         {"required_protectors"}),
        ((NOISED,), {**OPEN, "epsilon": 8}, {"epsilon"}),  # labels beside the features have no guarantee
    ],
)  # fmt: skip
def test_features_need_what_the_policy_says(
    overrides: tuple[str, ...], policy: dict[str, object], codes: set[str]
) -> None:
    assert found(parse_config(FEATURES, overrides=overrides), **policy) == codes


@pytest.mark.parametrize(("epsilon", "codes"), [(3.9, {"epsilon"}), (8.1, set())])
def test_the_epsilon_of_private_training_is_weighed(weights: Config, epsilon: float, codes: set[str]) -> None:
    private = weights.model_dump(mode="json") | {
        "privacy": {"kind": "dp_updates", "epsilon": 4, "delta": 1e-5, "clip": 1.0}
    }
    assert found(Config.model_validate(private), epsilon=epsilon, delta=1e-5) == codes


def test_a_refusal_names_every_objection() -> None:
    refuse(())
    with pytest.raises(PlanNotApprovedError, match=r"\[a\] one; \[b\] two") as caught:
        refuse((Objection("a", "one"), Objection("b", "two")))
    assert caught.value.reason == "over_policy"

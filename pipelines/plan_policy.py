"""A plan against what a site allows: every objection at once, each with how to settle it."""

import math
from dataclasses import dataclass
from datetime import date, timedelta

import medfl
from medfl.config.privacy import Protection
from medfl.config.settings import Config
from medfl.errors import PlanNotApprovedError
from medfl.governance.egress import Egress
from medfl.governance.plan import Plan
from medfl.governance.site_policy import SitePolicy
from medfl.privacy.composition import REPLACE, composed_epsilon
from medfl.privacy.sampled_gaussian import Adjacency
from pipelines.privacy_checks import planned_events
from pipelines.site_plan import Counts


@dataclass(frozen=True)
class Objection:
    """Why a site does not approve a plan.

    Attributes
    ----------
    code : str
        Stable, such as "epsilon".
    text : str
        What must hold and what was found, one sentence.
    """

    code: str
    text: str


def objections(
    plan: Plan, config: Config, egress: Egress, policy: SitePolicy, *, site: str, counts: Counts | None, today: date
) -> tuple[Objection, ...]:
    """Return everything that keeps a site from approving a plan.

    Parameters
    ----------
    plan : Plan
    config : Config
        Its settings.
    egress : Egress
        Derived at the site.
    policy : SitePolicy
    site : str
        The site's name.
    counts : Counts or None
        Of the site's data, where they are known.
    today : date
    """
    found = [
        *_of_plan(plan, site, today),
        *_of_sharing(config, policy),
        *_of_epsilon(config, policy),
        *_of_egress(egress, policy),
    ]
    if counts is not None and counts.subjects["train"] < policy.minimum_subjects:
        found.append(
            Objection(
                "subjects",
                f"the site must have at least {policy.minimum_subjects} subjects to train on, it has "
                f"{counts.subjects['train']}",
            )
        )
    return tuple(found)


def refuse(found: tuple[Objection, ...]) -> None:
    """Return if there is no objection.

    Raises
    ------
    PlanNotApprovedError
        With reason "over_policy", naming every one.
    """
    if found:
        listed = "; ".join(f"[{one.code}] {one.text}" for one in found)
        raise PlanNotApprovedError(
            "over_policy",
            f"A plan must stay within the site's policy: {listed}. Ask the hub for another plan, or change 'policy' in "
            "site.yaml if the hospital agrees.",
        )


def _of_plan(plan: Plan, site: str, today: date) -> list[Objection]:
    found = []
    if site not in plan.sites:
        found.append(Objection("site", f"the plan must name this site, '{site}', among its sites"))
    if plan.medfl_version != medfl.__version__:
        found.append(
            Objection(
                "version",
                f"the plan must be for the installed medfl {medfl.__version__}, it is for {plan.medfl_version}",
            )
        )
    if plan.expires < today:
        found.append(Objection("expired", f"the plan must not have ended, it did on {plan.expires}"))
    return found


def latest_end(policy: SitePolicy, today: date) -> date:
    """Return the last day that an approval of today may reach."""
    return today + timedelta(days=policy.approval_days)


def _of_sharing(config: Config, policy: SitePolicy) -> list[Objection]:
    found = []
    for code, setting, kind, allowed in (
        ("task", "task.kind", config.task.kind, policy.tasks),
        ("sharing", "sharing", config.sharing, policy.sharing),
        ("privacy", "privacy.kind", config.privacy.kind, policy.privacy),
    ):
        if kind not in allowed:
            found.append(Objection(code, f"{setting} must be one of {', '.join(allowed) or 'none'}, it is {kind}"))
    if config.sharing != "features":
        return found
    stages = _stages(config.protection)
    other = [stage for stage in stages if stage not in policy.protectors]
    if other:
        found.append(
            Objection(
                "protectors", f"features may be protected by {', '.join(policy.protectors)}, not {', '.join(other)}"
            )
        )
    missing = [stage for stage in policy.required_protectors if stage not in stages]
    if missing:
        found.append(Objection("required_protectors", f"features must be protected by {', '.join(missing)} as well"))
    if config.head_at == "hub":
        if not stages and not policy.clear_features:
            found.append(Objection("clear_features", "features must not leave without any protector"))
        if not policy.targets:
            targets = "labels" if config.task.kind == "classification" else "masks"
            found.append(Objection("targets", f"{targets} must not leave the site; features.head must be 'sites'"))
    return found


def _stages(protection: Protection) -> list[str]:
    stages: list[str] = [stage.kind for stage in (protection.minimize, protection.noise, protection.keyed) if stage]
    return [*stages, "quantize"] if protection.quantize is not None else stages


def _of_epsilon(config: Config, policy: SitePolicy) -> list[Objection]:
    if policy.epsilon is None:
        return []
    planned = composed_epsilon(planned_events(config, Adjacency.REPLACE), policy.delta, REPLACE)
    if planned <= policy.epsilon:
        return []
    asked = "the plan has parts without a proven guarantee" if math.isinf(planned) else f"the plan needs {planned:.4g}"
    text = f"epsilon must be at most {policy.epsilon:g} at delta {policy.delta:g} (replace one subject), {asked}"
    return [Objection("epsilon", text)]


def _of_egress(egress: Egress, policy: SitePolicy) -> list[Objection]:
    found = []
    largest = max(rule.max_bytes for rule in egress.kinds)
    if largest > policy.reply_bytes:
        found.append(
            Objection("reply_bytes", f"one reply must have at most {policy.reply_bytes} bytes, it may have {largest}")
        )
    total = egress.total_bytes()
    if total > policy.run_bytes:
        found.append(
            Objection("run_bytes", f"all replies must have at most {policy.run_bytes} bytes, they may have {total}")
        )
    return found

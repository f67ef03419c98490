"""Reports to test with."""

from medfl.governance.policy import AuditPolicy
from medfl.results.attack import AttackResult, Control
from medfl.results.report import AuditReport, FamilyOutcome, Scope, Tool, Verdict


def attack(value: float, half: float = 0.02, **changes: object) -> AttackResult:
    facts: dict[str, object] = {
        "family": "re-identification",
        "name": "lda",
        "knowledge": "re-trained",
        "value": value,
        "ci_low": value - half,
        "ci_high": value + half,
        "subjects": 100,
        "positives": 200,
        "negatives": 5000,
        "attacker_subjects": 150,
        "validation": 0.6,
        "seconds": 1.0,
    }
    return AttackResult.model_validate(facts | changes)


def control(kind: str, passed: bool | None = True, family: str = "re-identification") -> Control:
    facts = {"family": family, "kind": kind, "name": kind, "value": 0.5, "ci_low": 0.4, "ci_high": 0.6}
    return Control.model_validate(facts | {"expected": "what must hold", "passed": passed})


def family(
    name: str = "re-identification",
    *attacks: AttackResult,
    null: bool = True,
    positive: bool = True,
) -> FamilyOutcome:
    return FamilyOutcome.model_validate(
        {
            "family": name,
            "status": "run",
            "attacks": attacks,
            "headline": tuple(range(len(attacks))),
            "controls": (control("null", null, name), control("positive", positive, name)),
        }
    )


def idle(name: str, status: str = "not applicable") -> FamilyOutcome:
    return FamilyOutcome.model_validate({"family": name, "status": status, "reason": "nothing to attack"})


def report(run: str = "chest", status: str = "below margin") -> AuditReport:
    policy = AuditPolicy()
    return AuditReport(
        created="2026-11-25T00:00:00+00:00",
        tool=Tool(version="0.1.0", python="3.11.7"),
        budget="quick",
        seed=0,
        policy=policy.model_dump(mode="json", by_alias=True),
        policy_sha256=policy.digest(),
        scope=Scope(
            run=run,
            arm="bottleneck+knt",
            sharing="features",
            released="protected features",
            plan_sha256="a" * 64,
            release_sha256="b" * 64,
            sites=3,
            subjects=250,
            studies=600,
            subjects_with_two_studies=200,
            split_sha256="c" * 64,
            attacker_subjects=150,
            test_subjects=100,
        ),
        verdicts=tuple(
            Verdict.model_validate(
                {
                    "question": question,
                    "status": status,
                    "reason": "A reason.",
                    "margin": "auc under 0.55",
                    "families": ("re-identification",),
                    "strongest": "re-identification: lda",
                    "value": 0.52,
                    "ci_low": 0.5,
                    "ci_high": 0.54,
                }
            )
            for question in ("singling out", "linkability", "inference")
        ),
        families=(family("re-identification", attack(0.52)), idle("membership", "not run")),
        not_tested=("membership: left out",),
        command="medfl audit RUN",
    )

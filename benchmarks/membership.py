"""Membership of hippocampus subjects in a federated model: as it is, stopped early, and overfitted.

Nothing here has a proof. "Stopped early" makes a fifth of the rounds: less to remember, and less Dice, which therefore
stands beside the areas. "Overfitted" is the other side: a fifth of the subjects, three times the rounds; an attack that
finds nothing there says nothing elsewhere. Sharing features is not among the rows: its frozen public backbone takes
pictures, not volumes. An audit attacks the heads of such runs in the same way.

Rows are attackers on models; areas have 95 % intervals over subjects; people are members and non-members.

Run: MEDFL_DATA=/path/to/data python benchmarks/membership.py --budget standard --out membership.json
"""

import argparse
import json
import tempfile
from pathlib import Path

from medfl.config.reading import load_config
from medfl.config.settings import Config
from medfl.governance.policy import AuditPolicy
from medfl.results.report import Budget, FamilyOutcome
from medfl.results.store import RunStore
from pipelines.audit_input import AttackInput
from pipelines.audit_material import open_run
from pipelines.audit_membership import membership
from pipelines.progress import Observer
from pipelines.simulate import simulate

CONFIG = Path(__file__).parents[1] / "configs" / "hippocampus.yaml"
FEW = ("data.split.train=0.15", "data.split.validation=0.05", "data.split.test=0.8", "training.weight_decay=0")
EARLY, LONG = 0.2, 3
ALWAYS = ("evaluation.every=0", "evaluation.uncertainty_passes=0", "evaluation.save_predictions=false")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", choices=("quick", "standard", "full"), default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", default="plain,stopped early,overfitted")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--keep", type=Path, help="folder for the runs; what is there is gone on with")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    configs = _configs((*arguments.settings, *ALWAYS))
    rows = []
    print(f"{'model':<15}{'rounds':>7}{'Dice':>7}  {'attacked':<37}{'attacker':<16}{'area':<22}{'people':>9}  controls")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models.split(","):
            place = (arguments.keep or Path(folder)) / name.replace(" ", "-")
            dice, found = _attacked(configs[name], place, arguments.budget, arguments.seed)
            _print(name, configs[name].training.rounds, dice, found)
            rows.append({"model": name, "dice": dice, "outcome": found.model_dump(mode="json")})
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n")


def _configs(settings: tuple[str, ...]) -> dict[str, Config]:
    plain = load_config(CONFIG, settings)
    rounds = plain.training.rounds
    return {
        "plain": plain,
        "stopped early": load_config(CONFIG, (*settings, f"training.rounds={max(1, round(EARLY * rounds))}")),
        "overfitted": load_config(CONFIG, (*settings, *FEW, f"training.rounds={LONG * rounds}")),
    }


def _attacked(config: Config, place: Path, budget: Budget, seed: int) -> tuple[float, FamilyOutcome]:
    """Train where that is not done yet, and attack; return Dice on the test subjects, and what was found."""
    store = RunStore(place)
    if not store.is_finished():
        simulate(config, place, resume=store.is_started())
    run = open_run(store, Observer())
    given = AttackInput(run, None, None, AuditPolicy(), budget, seed, lambda line: None)
    dice = store.read_metrics().pooled["dice_mean"].value
    return float("nan") if dice is None else dice, membership(given).outcome


def _print(name: str, rounds: int, dice: float, found: FamilyOutcome) -> None:
    held = all(control.passed for control in found.controls if control.kind in ("null", "positive"))
    for row in found.attacks:
        area = f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        people = f"{row.positives}/{row.negatives}"
        line = f"{name:<15}{rounds:>7}{dice:>7.3f}  {row.setting:<37}{row.name:<16}{area:<22}{people:>9}"
        print(f"{line}  {'held' if held else 'failed'}", flush=True)
    for one in found.controls:
        area = f"{one.value:.3f} [{one.ci_low:.3f}, {one.ci_high:.3f}]"
        print(f"  {one.kind} control, {one.name}: {area} {'' if one.passed else 'failed'}", flush=True)


if __name__ == "__main__":
    main()

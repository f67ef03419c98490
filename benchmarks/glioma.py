"""Glioma over four real institutions: strategies beside pooled and local training, cross-validated over patients.

Dice is per patient, over all voxels of a patient's slices; a patient without tumor in the test slices does not occur in
this set. Every model takes the same number of optimizer steps in total. Per institution the table shows the paired
difference to the institution's own local model, with a 95 % bootstrap interval over patients.

Run: MEDFL_DATA=/path/to/data python benchmarks/glioma.py --folds 5 --seeds 3 --out glioma.json
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfl.config.reading import load_config
from medfl.config.settings import Config
from medfl.data.manifest import Manifest
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.program import Arrays, Order, SiteMemory
from medfl.results.atomic import write_text
from pipelines.baselines import train_local, train_pooled
from pipelines.compare import with_strategy
from pipelines.progress import Observer
from pipelines.simulate import Prepared, prepare

CONFIG = Path(__file__).parents[1] / "configs" / "glioma.yaml"
STRATEGIES = ("fedavg", "fedprox", "fedbn", "fedadam", "scaffold")
Dice = dict[str, dict[str, float]]
"""Institution -> patient -> Dice."""


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only-folds", type=int, default=0, help="stop after so many folds; 0 runs all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path, help="written after every fold; folds found there are not run again")
    arguments = parser.parse_args()
    config = load_config(CONFIG, (*arguments.settings, "compute.threads=1"))
    done = _earlier(arguments.out, config)
    began = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        waiting = {
            pool.submit(_job, config, seed, fold, arguments.folds, arguments.strategies.split(",")): f"{seed}/{fold}"
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds)
            for fold in range(arguments.only_folds or arguments.folds)
            if f"{seed}/{fold}" not in done
        }
        for finished in as_completed(waiting):
            done[waiting[finished]] = finished.result()
            print(f"seed/fold {waiting[finished]}: {time.perf_counter() - began:.0f} s", flush=True)
            if arguments.out:
                kept = {"config": config.model_dump(mode="json"), "folds": done}
                write_text(arguments.out, json.dumps(kept, indent=1) + "\n")
    _report(_joined(done))


def _earlier(out: Path | None, config: Config) -> dict[str, dict[str, Dice]]:
    """Return the folds that an earlier call with the same settings has finished."""
    if out is None or not out.exists():
        return {}
    kept = json.loads(out.read_text())
    if kept["config"] != config.model_dump(mode="json"):
        raise SystemExit(f"{out} holds figures of other settings. Choose another --out.")
    found: dict[str, dict[str, Dice]] = kept["folds"]
    return found


def _job(config: Config, seed: int, fold: int, folds: int, names: list[str]) -> dict[str, Dice]:
    return _models(*_fold(config.model_copy(update={"seed": seed}), fold, folds), names)


def _joined(done: Mapping[str, Mapping[str, Dice]]) -> dict[str, Dice]:
    """Return each model's Dice of every patient, averaged over seeds."""
    values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for models in done.values():
        for name, sites in models.items():
            for site, patients in sites.items():
                for patient, value in patients.items():
                    values[name][site][patient].append(value)
    return {name: _means(sites) for name, sites in values.items()}


def _fold(config: Config, fold: int, folds: int) -> tuple[Config, Prepared]:
    """Return the run with this fold's patients as its test split, a tenth of the others for validation."""
    base = prepare(config, None, Observer())
    manifest = base.manifest
    rng = np.random.default_rng(2026)
    split: dict[str, str] = {}
    for site in manifest.sites():
        patients = rng.permutation(np.array(manifest.where(site=site).subjects()))
        for position, patient in enumerate(patients):
            split[str(patient)] = "test" if position % folds == fold else "train"
        rest = [str(patient) for patient in patients if split[str(patient)] == "train"]
        for patient in rest[: max(2, round(len(rest) * 0.15))]:
            split[patient] = "val"
    rows = tuple(replace(row, split=split[row.subject]) for row in manifest.rows)
    return config, _divided(base, Manifest(rows, manifest.folder))


def _divided(base: Prepared, manifest: Manifest) -> Prepared:
    rows = {row.study: row for row in manifest.rows}
    for program in base.programs.values():
        studies = [replace(study, row=rows[study.row.study]) for own in program.studies.values() for study in own]
        program.studies = {
            name: [study for study in studies if study.row.split == name] for name in ("train", "val", "test")
        }
    return replace(base, manifest=manifest)


def _models(config: Config, prepared: Prepared, names: list[str]) -> dict[str, Dice]:
    found: dict[str, Dice] = {}
    pooled = train_pooled(config, prepared)
    found["pooled"] = _dice(prepared, dict.fromkeys(prepared.programs, pooled))
    local = {site: train_local(config, prepared, site, equal_steps=True) for site in prepared.programs}
    found["local"] = _dice(prepared, local)
    for site, model in local.items():
        found[f"local:{site}"] = _dice(prepared, dict.fromkeys(prepared.programs, model))
    for name in names:
        found[name], found[f"{name}+own"] = _federated(with_strategy(config, name), prepared)
    return found


def _federated(config: Config, prepared: Prepared) -> tuple[Dice, Dice]:
    """Train over the loopback grid; judge the sites' models before and after each makes the model its own."""
    from medfl.federation.hub import Hub, Limits
    from pipelines.build import build_strategy
    from pipelines.client_app import make_client_app

    def app_of(site: str) -> Any:
        return make_client_app(lambda context: prepared.programs[site])

    grid = LoopbackGrid({site: app_of(site) for site in prepared.programs}, run_config={})
    rounds = config.training.rounds
    model: Arrays = dict(prepared.start)
    with grid.open():
        hub = Hub(grid, build_strategy(config, prepared.pipeline.network, sites=len(grid.nodes)), Limits(1, 3600, 60))
        hub.gather(len(prepared.programs))
        for number in range(1, rounds + 1):
            model = hub.train(number, rounds, model).model
        options = hub.strategy.instructions()
        shared = hub.strategy.shared(model)
    before, after = {}, {}
    for position, (site, program) in enumerate(prepared.programs.items(), start=2):
        order, memory = Order(rounds, rounds, shared, {}, options), _memory(grid, position)
        before[site] = program.final_model(order, memory, personalize_epochs=0)
        after[site] = program.final_model(order, memory, personalize_epochs=config.federation.personalize_epochs or 3)
    return _dice(prepared, before), _dice(prepared, after)


def _memory(grid: LoopbackGrid, node: int) -> SiteMemory:
    from medfl.federation.records import from_record

    record = grid.nodes[node].context.state.array_records.get("memory")
    return SiteMemory() if record is None else SiteMemory(from_record(record))


def _dice(prepared: Prepared, model_of: Mapping[str, Arrays]) -> Dice:
    """Return the Dice of every test patient, over all voxels of all slices."""
    found: Dice = {}
    for site, program in prepared.programs.items():
        program.load(model_of[site])
        sums: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
        for study in program.studies["test"]:
            ((probabilities, _),) = prepared.pipeline.predict([study.image], 0)
            predicted, reference = probabilities.argmax(dim=0).numpy() == 1, study.target.numpy() == 1
            tp = float((predicted & reference).sum())
            sums[study.row.subject] += [tp, predicted.sum() - tp, reference.sum() - tp]
        found[site] = {patient: 2 * tp / max(1.0, 2 * tp + fp + fn) for patient, (tp, fp, fn) in sums.items()}
    return found


def _means(sites: Mapping[str, Mapping[str, list[float]]]) -> Dice:
    return {site: {name: float(np.mean(values)) for name, values in found.items()} for site, found in sites.items()}


def _report(dice: Mapping[str, Dice]) -> None:
    sites = sorted(next(iter(dice.values())))
    print(f"\n{'model':<14}{'all':>8}" + "".join(f"{site:>8}" for site in sites) + "   paired difference to local")
    rng = np.random.default_rng(0)
    for name, found in dice.items():
        every = [value for site in sites for value in found[site].values()]
        row = f"{name:<14}{np.mean(every):8.3f}"
        row += "".join(f"{np.mean(list(found[site].values())):8.3f}" for site in sites)
        for site in sites:
            own = dice["local"][site]
            difference = np.array([found[site][patient] - own[patient] for patient in own])
            draws = rng.choice(difference, (2000, len(difference))).mean(axis=1)
            low, high = np.percentile(draws, [2.5, 97.5])
            row += f"   {site} {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
        print(row)


if __name__ == "__main__":
    main()

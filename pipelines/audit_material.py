"""What left the sites of a run, beside the truth that only they know."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch

from medfl.audit.material import ReleasedFeatures
from medfl.config.reading import parse_config
from medfl.config.settings import Config
from medfl.data.dataset import PreparedStudy
from medfl.errors import AuditError, RunFolderError
from medfl.privacy.key_files import KeyFile
from medfl.results.store import RunStore
from pipelines.custody import MemoryCustody
from pipelines.feature_program import FeatureProgram
from pipelines.minimization import Minimization
from pipelines.plan import make_plan
from pipelines.progress import Observer
from pipelines.protection import SiteProtection
from pipelines.simulate import Prepared, prepare

FEATURES = "features-train"
_ATTRIBUTES = ("sex", "scanner", "site")


@dataclass(frozen=True)
class AuditedRun:
    """A finished run, with its data.

    Attributes
    ----------
    store : RunStore
    config : Config
    plan_sha256 : str
    prepared : Prepared
        Every site's program with clear features.
    minimized : Minimization or None
    release_sha256 : str
        Over all files in `released/`.
    """

    store: RunStore
    config: Config
    plan_sha256: str
    prepared: Prepared
    minimized: Minimization | None
    release_sha256: str


def open_run(store: RunStore, observer: Observer) -> AuditedRun:
    """Read a finished run, and prepare its data again.

    Raises
    ------
    AuditError
        If the run is not finished, kept nothing of what it released, or its data has changed since.
    """
    if not store.is_finished():
        raise AuditError("An audit is of a finished run; this one has no metrics.json. Finish it with --resume.")
    text, plan = store.read_settings()
    config = parse_config(text, source="config.yaml")
    files = store.releases()
    if not files:
        raise AuditError("Nothing of what was released was kept. Run again with evaluation.keep_releases=last or all.")
    prepared = prepare(config, None, observer)
    digests = {site: prepared.manifest.where(site=site).digest() for site in prepared.programs}
    if plan.get("sha256") != make_plan(config, digests)["sha256"]:
        raise AuditError(
            "An audit needs the settings, the data and the version of medfl that the run had; one of them has changed "
            "since, or files of several runs were mixed. Audit where it was run, or run again."
        )
    arrays = store.read_minimization()
    return AuditedRun(
        store,
        config,
        str(plan.get("sha256", "")),
        prepared,
        None if arrays is None else Minimization.from_arrays(arrays),
        _digest(store),
    )


def released_features(run: AuditedRun) -> ReleasedFeatures | None:
    """Return the features that left the sites for training; None where none did.

    Raises
    ------
    RunFolderError
        If a release does not fit the data it was made from.
    """
    parts: list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], list[PreparedStudy]]] = []
    for site, program in run.prepared.programs.items():
        kept = run.store.read_release(site, FEATURES)
        if kept is None or not isinstance(program, FeatureProgram):
            continue
        arrays, subjects = kept
        studies = program.allowed(program.clear("train"))
        if tuple(study.row.subject for study in studies) != subjects or len(arrays["features"]) != len(studies):
            raise RunFolderError("A release must hold one row per training study, in order; it does not. Mixed runs?")
        parts.append((arrays["features"], studies))
    if not parts:
        return None
    studies = [study for _, own in parts for study in own]
    return ReleasedFeatures(
        released=np.concatenate([features for features, _ in parts]),
        clear=_stacked(studies),
        subjects=np.array([study.row.subject for study in studies]),
        labels=np.array([_label(study) for study in studies], dtype=np.int64),
        attributes={name: np.array([str(getattr(study.row, name) or "") for study in studies]) for name in _ATTRIBUTES},
    )


def released_under_other_keys(run: AuditedRun) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Protect the same studies again, in the same order, under keys (and noise) made for this purpose alone."""
    fresh = MemoryCustody()
    parts = []
    for site, program in run.prepared.programs.items():
        if run.store.read_release(site, FEATURES) is None or not isinstance(program, FeatureProgram):
            continue
        studies = program.allowed(program.clear("train"))
        protection = SiteProtection(run.config, program.cut, run.minimized, fresh, site)
        parts.append(protection.protect([s.image for s in studies], [s.row.study for s in studies]).numpy())
    return np.concatenate(parts)


def keys_of(run: AuditedRun) -> tuple[bytes, ...]:
    """Return the master keys of a simulation, to search for them; empty without a key.

    Raises
    ------
    AuditError
        If keys were used and are not where the simulation keeps them.
    """
    if run.config.protection.keyed is None:
        return ()
    folder = run.store.folder.resolve()
    files = sorted(folder.with_name(f"{folder.name}.keys").glob("*.key"))
    if not files:
        raise AuditError("A search for keys needs the keys that were used; they are not beside the run folder.")
    return tuple(KeyFile.load(path, datetime.now(UTC).date()).key.secret_bytes() for path in files)


def _stacked(studies: Sequence[PreparedStudy]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return torch.stack([study.image for study in studies]).numpy()


def _label(study: PreparedStudy) -> int:
    return int(study.target) if study.target.ndim == 0 else 0


def _digest(store: RunStore) -> str:
    digest = hashlib.sha256()
    for path in store.releases():
        digest.update(path.relative_to(store.folder).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()

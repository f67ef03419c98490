"""Everything that should be known about a manifest before a run trusts it."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from medfl.data.inspection import Inspection, inspect_study
from medfl.data.manifest import SPLITS, Manifest
from medfl.data.phi import suspicions
from medfl.data.reading import ImageReader
from medfl.errors import ConfigError

_RARE_SHARE = 0.01
_MANY_VALUES = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should look at.

    Attributes
    ----------
    level : str
        ``"error"``: the check fails. ``"warning"``: it may be meant.
    code : str
        Stable name of the kind of finding.
    lines : tuple of int
        Lines of the manifest; the header is line 1.
    sentence : str
        What must hold and what was found; never a value that may be personal.
    """

    level: Literal["error", "warning"]
    code: str
    lines: tuple[int, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class SiteCount:
    """How much one site has, in all and per split (subjects)."""

    site: str
    subjects: int
    studies: int
    train: int
    val: int
    test: int
    unassigned: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """Range of grids among readable images of the same number of spatial axes.

    Attributes
    ----------
    studies : int
    channels : tuple of int
        Every number of channels that occurs.
    shape_min, shape_max : tuple of int
        Per axis, (D, H, W) or (H, W).
    spacing_min_mm, spacing_max_mm : tuple of float
        Per axis, in millimeters; 1 where a picture has none.
    """

    studies: int
    channels: tuple[int, ...]
    shape_min: tuple[int, ...]
    shape_max: tuple[int, ...]
    spacing_min_mm: tuple[float, ...]
    spacing_max_mm: tuple[float, ...]


@dataclass(frozen=True)
class CheckReport:
    """What `check_manifest` found.

    Attributes
    ----------
    studies, subjects : int
    sites : tuple of SiteCount
    geometry : tuple of Geometry
        One entry per number of spatial axes.
    classes : tuple of (str, int)
        Class labels with their number of studies.
    mask_values : tuple of (float, int)
        Voxel values of masks with the number of masks that hold them; at most 64.
    findings : tuple of Finding
        Errors first.
    """

    studies: int
    subjects: int
    sites: tuple[SiteCount, ...]
    geometry: tuple[Geometry, ...]
    classes: tuple[tuple[str, int], ...]
    mask_values: tuple[tuple[float, int], ...]
    findings: tuple[Finding, ...]

    @property
    def is_ok(self) -> bool:
        """Whether there is no error."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> str:
        """Return one JSON object."""
        return json.dumps({"ok": self.is_ok, **asdict(self)}, ensure_ascii=False)


def check_manifest(
    manifest: Manifest,
    reader: ImageReader,
    *,
    expected_values: Iterable[float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read every file of a manifest and report what is there and what is wrong.

    Parameters
    ----------
    manifest : Manifest
    reader : ImageReader
        Usually a `medfl.imaging.bounded.BoundedReader`.
    expected_values : iterable of float, optional
        Voxel values that masks may hold. Without it, a value in at most 1 % of the masks (or in one mask of ten or
        more) is a warning.
    progress : callable, optional
        Called with (done, total) after every study.
    """
    inspections: list[Inspection] = []
    for line, row in enumerate(manifest.rows, start=2):
        inspections.append(inspect_study(manifest, row, line, reader))
        if progress is not None:
            progress(len(inspections), len(manifest.rows))
    values = Counter(value for seen in inspections for value in seen.mask_values)
    findings = [
        *(Finding("error", issue.code, (seen.line,), issue.sentence) for seen in inspections for issue in seen.issues),
        *_value_findings(inspections, values, None if expected_values is None else frozenset(expected_values)),
        *_duplicate_findings(manifest, inspections),
        *_subject_findings(manifest),
        *_missing_target_findings(manifest),
        *_phi_findings(manifest),
    ]
    return CheckReport(
        studies=len(manifest.rows),
        subjects=len(manifest.subjects()),
        sites=_site_counts(manifest),
        geometry=_geometry(inspections),
        classes=tuple(sorted(Counter(r.target for r in manifest.rows if r.target and not r.has_mask).items())),
        mask_values=tuple(sorted(values.items())[:_MANY_VALUES]),
        findings=tuple(sorted(findings, key=lambda finding: (finding.level, finding.code, finding.lines))),
    )


def parse_values(text: str) -> tuple[float, ...] | None:
    """Return the numbers of a list such as ``0,1,2``; None for an empty text.

    Parameters
    ----------
    text : str

    Raises
    ------
    ConfigError
        If something in it is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else None
    except ValueError:
        raise ConfigError("Expected values must be numbers with commas between them, such as 0,1,2.") from None


def _site_counts(manifest: Manifest) -> tuple[SiteCount, ...]:
    counts = []
    for site in sorted({row.site for row in manifest.rows}):
        rows = manifest.where(site=site).rows
        per_split = [len({row.subject for row in rows if row.split == split}) for split in (*SPLITS, "")]
        counts.append(SiteCount(site, len({row.subject for row in rows}), len(rows), *per_split))
    return tuple(counts)


def _geometry(inspections: list[Inspection]) -> tuple[Geometry, ...]:
    groups: dict[int, list[Inspection]] = defaultdict(list)
    for seen in inspections:
        if seen.shape:
            groups[len(seen.shape)].append(seen)
    return tuple(
        Geometry(
            studies=len(group),
            channels=tuple(sorted({seen.channels for seen in group})),
            shape_min=tuple(min(axis) for axis in zip(*(seen.shape for seen in group), strict=True)),
            shape_max=tuple(max(axis) for axis in zip(*(seen.shape for seen in group), strict=True)),
            spacing_min_mm=tuple(min(axis) for axis in zip(*(seen.spacing_mm for seen in group), strict=True)),
            spacing_max_mm=tuple(max(axis) for axis in zip(*(seen.spacing_mm for seen in group), strict=True)),
        )
        for _, group in sorted(groups.items())
    )


def _value_findings(
    inspections: list[Inspection], values: Counter[float], expected: frozenset[float] | None
) -> Iterable[Finding]:
    """Report values that masks should not hold: unexpected ones, or rare ones where nothing is expected."""
    masks = sum(bool(seen.mask_values) for seen in inspections)
    few = max(1.0, _RARE_SHARE * masks) if masks >= 10 else 0.0
    for value, count in sorted(values.items()):
        lines = tuple(seen.line for seen in inspections if value in seen.mask_values)
        if expected is not None and value not in expected:
            text = f"Masks may hold {sorted(expected)}; {count} of {masks} hold {value:g}."
            yield Finding("error", "unexpected_value", lines, text)
        elif expected is None and value.is_integer() and count <= few:
            yield Finding("warning", "rare_value", lines, f"Only {count} of {masks} masks hold the value {value:g}.")


def _duplicate_findings(manifest: Manifest, inspections: list[Inspection]) -> Iterable[Finding]:
    """Report images with the same decoded voxels; across splits they would fake a result."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, seen in enumerate(inspections):
        if seen.digest:
            groups[seen.digest].append(index)
    for group in (indices for indices in groups.values() if len(indices) > 1):
        rows = [manifest.rows[index] for index in group]
        lines = tuple(inspections[index].line for index in group)
        if len({row.split for row in rows} - {""}) > 1:
            yield Finding("error", "duplicate_across_splits", lines, "The same voxels must not be in two splits.")
        elif len({row.subject for row in rows}) > 1:
            yield Finding("warning", "duplicate_across_subjects", lines, "Several subjects have the same voxels.")
        else:
            yield Finding("warning", "duplicate", lines, "Several studies of a subject have the same voxels.")


def _subject_findings(manifest: Manifest) -> Iterable[Finding]:
    lines: dict[str, list[int]] = defaultdict(list)
    for line, row in enumerate(manifest.rows, start=2):
        lines[row.subject].append(line)
    for found in lines.values():
        rows = [manifest.rows[line - 2] for line in found]
        if len({row.split for row in rows} - {""}) > 1:
            yield Finding("error", "subject_in_two_splits", tuple(found), "A subject must be in one split.")
        if len({row.site for row in rows}) > 1:
            yield Finding("warning", "subject_at_two_sites", tuple(found), "A subject is at more than one site.")


def _missing_target_findings(manifest: Manifest) -> Iterable[Finding]:
    lines = tuple(line for line, row in enumerate(manifest.rows, start=2) if not row.target)
    if lines:
        yield Finding("warning", "no_target", lines, f"{len(lines)} studies have no target and cannot be learned from.")


def _phi_findings(manifest: Manifest) -> Iterable[Finding]:
    """Report columns whose values look personal, one finding per column and kind."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for line, row in enumerate(manifest.rows, start=2):
        for suspicion in suspicions(row):
            places[suspicion.column, suspicion.kind].append(line)
    for (column, kind), lines in sorted(places.items()):
        text = (
            f"Column {column} looks like it holds a {kind} in {len(lines)} rows. Import with copy, or rename the files."
        )
        yield Finding("warning", "looks_personal", tuple(lines), text)

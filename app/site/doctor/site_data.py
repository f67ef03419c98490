"""The site's data, without a name: the manifest, whether every file can be opened, codecs, numbers, who withdrew."""

import os
from collections.abc import Collection, Iterator, Sequence

from app.site.doctor.finding import Finding, ok, problem, warning
from app.site.settings import SiteSettings
from medfl.data.manifest import Manifest, StudyRow, read_manifest
from medfl.errors import ImageReadError, ManifestError, MedFLError
from medfl.governance.exclude_list import ExcludeList
from medfl.imaging.codecs import missing_codecs
from medfl.imaging.read import read_image

_SAMPLE = 5


def check_data(settings: SiteSettings) -> Iterator[Finding]:
    """Look at the data that the site's manifest names.

    Parameters
    ----------
    settings : SiteSettings
    """
    missing = missing_codecs()
    if missing:
        yield problem(
            "data.codecs", f"Compressed DICOM that cannot be read here: {', '.join(missing)}.", "Install medfl again."
        )
    else:
        yield ok("data.codecs", "Every DICOM compression that medfl knows can be read.")
    try:
        excluded = ExcludeList(settings.state).subjects()
        yield ok("data.withdrawn", f"{len(excluded)} subjects withdrew.")
    except MedFLError as error:
        yield problem("data.withdrawn", str(error), "Nothing is computed until the list can be read again.")
        return
    try:
        manifest = read_manifest(settings.data.manifest)
    except ManifestError as error:
        yield problem("data.manifest", str(error), "Import the data again with 'medfl data import'.")
        return
    except OSError as error:
        yield problem(
            "data.manifest",
            f"The manifest cannot be read ({error.strerror}).",
            "Mount the data, and let the account that runs the site read it.",
        )
        return
    rows = [row for row in manifest.rows if row.subject not in excluded]
    yield ok("data.manifest", f"The manifest has {len(manifest.rows)} studies of {len(manifest.subjects())} subjects.")
    yield _files(manifest, excluded)
    yield _readable(manifest, rows)
    yield _counts(settings, rows)


def _files(manifest: Manifest, excluded: Collection[str]) -> Finding:
    """Ask for every file whether it may be read; lines of the manifest stand for names."""
    bad, rows = [], [(line, row) for line, row in enumerate(manifest.rows, start=2) if row.subject not in excluded]
    for line, row in rows:
        paths = [manifest.image_path(row)] + ([manifest.target_path(row)] if row.has_mask else [])
        if not all(os.access(path, os.R_OK) for path in paths):
            bad.append(line)
    if bad:
        return problem(
            "data.files",
            f"{len(bad)} of {len(rows)} studies have a file that is missing or may not be read, the first near line "
            f"{bad[0]} of the manifest.",
            "Mount the data read-only where the manifest expects it, readable for the worker's account.",
        )
    return ok("data.files", f"All files of {len(rows)} studies may be read.")


def _readable(manifest: Manifest, rows: Sequence[StudyRow]) -> Finding:
    """Read a few images, spread over the manifest."""
    step = max(1, len(rows) // _SAMPLE)
    sample, reasons = list(rows)[::step][:_SAMPLE], []
    for row in sample:
        try:
            read_image(manifest.image_path(row))
        except ImageReadError as error:
            reasons.append(error.reason)
        except OSError:
            reasons.append("unreadable")
    if reasons:
        return problem(
            "data.images",
            f"{len(reasons)} of {len(sample)} tried images cannot be used: {', '.join(sorted(set(reasons)))}.",
            "Look at all of them with 'medfl data check'.",
        )
    return ok("data.images", f"{len(sample)} images, spread over the manifest, were read.")


def _counts(settings: SiteSettings, rows: Sequence[StudyRow]) -> Finding:
    subjects, least = len({row.subject for row in rows}), settings.policy.minimum_subjects
    if subjects < least:
        return problem(
            "data.counts",
            f"There are {subjects} subjects; policy.minimum_subjects is {least}, so nothing could leave.",
            "Import more studies, or do not take part.",
        )
    if subjects < 5 * least:
        return warning(
            "data.counts",
            f"There are {subjects} subjects; a fifth of them for a test is near policy.minimum_subjects ({least}).",
            "Metrics of this site may be withheld; 'medfl plan show' has the numbers of a plan.",
        )
    return ok("data.counts", f"There are {subjects} subjects.")

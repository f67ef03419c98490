"""What an import finds before it opens a single image: candidate studies and files that belong to none."""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from medfl.data.quarantine import Quarantined
from medfl.data.study_row import SPLITS, is_iso_date
from medfl.errors import ConfigError, DataError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
_NIFTI_SUFFIXES = (".nii.gz", ".nii")
_COMPACT_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study as the source names it; its identifiers become pseudonyms and are never shown.

    Attributes
    ----------
    subject, study : str
        Identifiers of the source; `study` is unique in it.
    image : Path
        File of the image.
    mask : Path or None
        File of the mask.
    label : str
        Class label, empty if the target is a mask or unknown.
    name, mask_name : str
        What the quarantine table calls the image and the mask.
    site, split, visit_date, sex, age, scanner : str
        As in the manifest.
    """

    subject: str = field(repr=False)
    study: str = field(repr=False)
    image: Path = field(repr=False)
    name: str = field(repr=False)
    mask: Path | None = field(default=None, repr=False)
    mask_name: str = field(default="", repr=False)
    label: str = ""
    site: str = ""
    split: str = ""
    visit_date: str = ""
    sex: str = ""
    age: str = ""
    scanner: str = ""


@dataclass(frozen=True)
class Found:
    """What an import is about to read.

    Attributes
    ----------
    candidates : tuple of Candidate
    quarantined : tuple of Quarantined
        Files that cannot become a study whatever they hold.
    notes : tuple of str
        Assumptions that were made, for the person who imports.
    """

    candidates: tuple[Candidate, ...]
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()


def find_nifti(images: Path, targets: Path | None, *, subject_pattern: str = "", site: str = "") -> Found:
    """Pair NIfTI images with masks of the same relative name.

    Parameters
    ----------
    images : Path
        Folder of images, searched with its subfolders.
    targets : Path or None
        Folder of masks; then an image without a mask is set aside.
    subject_pattern : str
        Regular expression over the relative name without suffix, with a group ``subject`` (or one group without a
        name) and optionally ``visit``. Without it every image is its own subject.
    site : str
        Site of all studies.

    Raises
    ------
    ConfigError
        If the pattern is not usable.
    DataError
        If a folder does not exist.
    """
    pattern = compile_subject_pattern(subject_pattern)
    image_files, quarantined = _by_key(images, _NIFTI_SUFFIXES)
    mask_files: dict[str, Path] = {}
    if targets is not None:
        mask_files, unusable = _by_key(targets, _NIFTI_SUFFIXES)
        quarantined += unusable
    candidates = []
    for key, image in image_files.items():
        name = shown_name(images, image)
        match = pattern.search(key) if pattern else None
        if pattern and (match is None or not subject_of(match)):
            quarantined.append(Quarantined(name, "no_subject", "The name must match the subject pattern."))
        elif targets is not None and key not in mask_files:
            quarantined.append(Quarantined(name, "no_target", "The image must have a mask of the same name."))
        else:
            subject, visit = (subject_of(match), _visit_of(match)) if match else (key, "")
            mask = mask_files.get(key)
            mask_name = shown_name(targets, mask) if targets and mask else ""
            candidates.append(Candidate(subject, key, image, name, mask, mask_name, site=site, visit_date=visit))
    for key in mask_files.keys() - image_files.keys():
        name = shown_name(targets or images, mask_files[key])
        quarantined.append(Quarantined(name, "no_image", "The mask must have an image of the same name."))
    return Found(tuple(candidates), tuple(quarantined), () if pattern else (_own_subject_note(len(candidates)),))


def find_classes(folder: Path, *, subject_pattern: str = "", site: str = "") -> Found:
    """Find pictures sorted into one subfolder per class, optionally below ``train``, ``val`` and ``test``.

    Parameters
    ----------
    folder : Path
        ``folder/CLASS/...`` or ``folder/SPLIT/CLASS/...``.
    subject_pattern : str
        As in `find_nifti`, over the relative name without suffix.
    site : str
        Site of all studies.

    Raises
    ------
    ConfigError
        If the pattern is not usable.
    DataError
        If the folder does not exist.
    """
    pattern = compile_subject_pattern(subject_pattern)
    files, quarantined = _by_key(folder, PICTURE_SUFFIXES)
    tops = {key.split("/")[0] for key in files if "/" in key}
    has_splits = bool(tops) and tops <= set(SPLITS)
    candidates = []
    for key, image in files.items():
        name = shown_name(folder, image)
        parts = key.split("/")
        match = pattern.search(key) if pattern else None
        if len(parts) < 2 + has_splits:
            quarantined.append(Quarantined(name, "no_class", "A picture must lie in the folder of its class."))
        elif pattern and match is None:
            quarantined.append(Quarantined(name, "no_subject", "The name must match the subject pattern."))
        else:
            subject, visit = (subject_of(match), _visit_of(match)) if match else (key, "")
            split = parts[0] if has_splits else ""
            candidates.append(
                Candidate(
                    subject,
                    key,
                    image,
                    name,
                    label=parts[has_splits],
                    site=site,
                    split=split,
                    visit_date=visit,
                )
            )
    return Found(tuple(candidates), tuple(quarantined), () if pattern else (_own_subject_note(len(candidates)),))


def compile_subject_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the compiled pattern, or None for an empty one.

    Raises
    ------
    ConfigError
        If it is no regular expression, or has neither a group ``subject`` nor exactly one group.
    """
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"subject_pattern must be a regular expression: {error}.") from error
    if "subject" not in compiled.groupindex and compiled.groups != 1:
        raise ConfigError("subject_pattern must have a group (?P<subject>...), or exactly one group.")
    return compiled


def subject_of(match: re.Match[str]) -> str:
    """Return what the subject group matched."""
    return (match["subject"] if "subject" in match.re.groupindex else match[1]) or ""


def date_of(text: str) -> str:
    """Return a date written YYYYMMDD or YYYY-MM-DD as the manifest wants it; empty if it is none."""
    match = _COMPACT_DATE.fullmatch(text)
    written = "-".join(match.groups()) if match else ""
    return written if is_iso_date(written) else ""


def shown_name(folder: Path, file: Path) -> str:
    """Return the name of a file for the quarantine table, starting with the imported folder's own name."""
    return (Path(folder.name or folder.resolve().name) / file.relative_to(folder)).as_posix()


def list_files(folder: Path) -> tuple[list[Path], list[Quarantined]]:
    """Return the regular files below `folder`, sorted; hidden ones are passed over, links to folders not followed.

    Raises
    ------
    DataError
        If the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError("The folder to import must exist and be a folder.")
    files: list[Path] = []
    quarantined: list[Quarantined] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent) / name for name in names if not name.startswith(".")):
            if _is_regular(path):
                files.append(path)
            else:
                sentence = "It must be a regular file that exists; found a broken link, a pipe or a device."
                quarantined.append(Quarantined(shown_name(folder, path), "not_a_file", sentence))
    return sorted(files), quarantined


def _by_key(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], list[Quarantined]]:
    """Return image files by their relative name without suffix, and everything else as quarantined."""
    files, quarantined = list_files(folder)
    keyed: dict[str, Path] = {}
    for path in files:
        relative = path.relative_to(folder).as_posix()
        suffix = next((suffix for suffix in suffixes if relative.lower().endswith(suffix)), "")
        key = relative[: len(relative) - len(suffix)]
        if suffix and key in keyed:
            sentence = "Two files must not differ in their suffix alone; the other one was taken."
            quarantined.append(Quarantined(shown_name(folder, path), "same_name", sentence))
        elif suffix:
            keyed[key] = path
        else:
            sentence = f"The name must end in one of {', '.join(suffixes)}."
            quarantined.append(Quarantined(shown_name(folder, path), "other_type", sentence))
    return keyed, quarantined


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _visit_of(match: re.Match[str]) -> str:
    """Return the visit group as a date, or nothing if it is none."""
    return date_of(match["visit"] or "") if "visit" in match.re.groupindex else ""


def _own_subject_note(count: int) -> str:
    return f"Each of {count} images is taken as a subject of its own. Give a subject pattern if subjects repeat."

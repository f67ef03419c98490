"""Every word the viewer shows; another language is another mapping with the same keys."""

from collections.abc import Mapping
from types import MappingProxyType

from medfl.errors import ConfigError

ENGLISH: Mapping[str, str] = MappingProxyType(
    {
        "axial": "Axial",
        "coronal": "Coronal",
        "sagittal": "Sagittal",
        "picture": "Image",
        "slice": "slice {slice} of {slices}",
        "all_planes": "All planes",
        "planes": "Planes",
        "tool": "Mouse",
        "crosshair": "Crosshair",
        "ruler": "Ruler",
        "windowing": "Window",
        "window": "Window",
        "automatic": "Automatic",
        "full_range": "Full range",
        "brain": "Brain",
        "lung": "Lung",
        "soft_tissue": "Soft tissue",
        "bone": "Bone",
        "manual": "Manual",
        "level": "Level",
        "width": "Width",
        "masks": "Masks",
        "opacity": "Mask opacity",
        "reference": "Reference (outline)",
        "model": "Model (filled)",
        "structures": "Structures",
        "value": "Value",
        "voxel": "voxel",
        "pixel": "pixel",
        "loading": "Loading the image …",
        "keys": "Keys",
        "keys_volume": (
            "↑ ↓ ← → one slice · Page ↑ ↓ five slices · Home, End first and last slice · 1 2 3 one plane · "
            "0 all planes · W next window · M masks · + - opacity · D ruler · Esc removes the ruler"
        ),
        "keys_picture": "W next window · M masks · + - opacity · D ruler · Esc removes the ruler",
        "research_use_only": "Research use only. Not for diagnosis or treatment.",
        "reduced": (
            "This image has {file_voxels} voxels, too many to send whole: blocks of {x} x {y} x {z} voxels are shown "
            "as one. Small structures may be blurred or missing."
        ),
        "tilted": "The planes follow the scan, which is tilted by {degrees}° against the axes of the body.",
        "unsized": "The size of a pixel is not known: distances are in pixels.",
        "failed": "The image cannot be shown:",
    }
)


def checked_words(words: Mapping[str, str]) -> dict[str, str]:
    """Return the words as a plain dictionary.

    Raises
    ------
    ConfigError
        If a key is missing or unknown.
    """
    different = sorted(words.keys() ^ ENGLISH.keys())
    if different:
        raise ConfigError(f"The viewer's words must have the keys of ENGLISH; these differ: {', '.join(different)}.")
    return dict(words)

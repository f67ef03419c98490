"""Where studies come from, how they are divided and prepared."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medfl.config.base import Axes, Settings, Share

Millimeters = Annotated[float, Field(gt=0, le=1000)]


class ManifestSource(Settings):
    """Studies listed in a manifest that `medfl data import` wrote."""

    kind: Literal["manifest"]
    path: str


class NiftiSource(Settings):
    """A folder of NIfTI images beside a folder of masks with the same file names."""

    kind: Literal["nifti"]
    images: str
    targets: str
    subject_pattern: str = ""


class Columns(Settings):
    """Which column of an index holds what; empty means that there is none.

    Attributes
    ----------
    image : str
        Path of the image below the folder of images.
    target : str
        Path of the mask below the folder of targets, or the class label where there is no such folder.
    subject, study, site, split, visit_date, sex, age, scanner : str
        As in the manifest.
    subject_pattern : str
        Regular expression over the image's path that finds the subject where its column is empty.
    drop_if_set : str
        Rows with a value in this column are left out.
    """

    image: str
    target: str = ""
    subject: str = ""
    study: str = ""
    site: str = ""
    split: str = ""
    visit_date: str = ""
    sex: str = ""
    age: str = ""
    scanner: str = ""
    subject_pattern: str = ""
    drop_if_set: str = ""


class IndexSource(Settings):
    """Pictures listed in a CSV file."""

    kind: Literal["index"]
    index: str
    images: str
    targets: str = ""
    columns: Columns


class PhantomSource(Settings):
    """Made-up studies, for a demonstration without data."""

    kind: Literal["phantoms"]
    dimensions: Literal[2, 3] = 3
    subjects: int = Field(default=60, ge=6, le=5000)
    visits: int = Field(default=2, ge=1, le=10)
    sites: int = Field(default=3, ge=1, le=50)


Source = Annotated[ManifestSource | NiftiSource | IndexSource | PhantomSource, Field(discriminator="kind")]


class ColumnSites(Settings):
    """Sites as the manifest names them; `merge` folds a small one into another."""

    kind: Literal["column"]
    merge: dict[str, str] = Field(default_factory=dict)


class EqualSites(Settings):
    """Subjects dealt to `count` sites at random."""

    kind: Literal["iid"]
    count: int = Field(ge=1, le=100)


class SizedSites(Settings):
    """Subjects dealt to sites of unequal size."""

    kind: Literal["sizes"]
    shares: dict[str, Share] = Field(min_length=1)


class LabelSkewedSites(Settings):
    """Sites that differ in the mix of labels (Dirichlet with concentration `alpha`)."""

    kind: Literal["dirichlet"]
    count: int = Field(ge=1, le=100)
    alpha: float = Field(gt=0)
    minimum_subjects: int = Field(default=5, ge=1)


Sites = Annotated[ColumnSites | EqualSites | SizedSites | LabelSkewedSites, Field(discriminator="kind")]


class Split(Settings):
    """Shares of subjects; what the manifest already says is kept."""

    train: Share = 0.7
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: Share = 0.2
    seed: int = 0

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + validation + test must be 1, got {total:g}")
        return self


class Data(Settings):
    """Where studies come from and how they are divided."""

    source: Source
    sites: Sites
    split: Split = Split()


class Preprocessing(Settings):
    """What is done to every image once, before it is cached.

    Attributes
    ----------
    size : tuple of int or None
        (H, W) or (D, H, W) pictures are resized to; None keeps the file's size.
    spacing_mm : tuple of float or None
        Voxel spacing (D, H, W) volumes are resampled to; None keeps the file's spacing.
    intensity : str
        "zscore": mean 0 and standard deviation 1 per image after clipping at the 0.5 and 99.5 percentiles;
        "unit": 8-bit range to [-1, 1].
    channels : int
        Channels of the image.
    """

    size: Axes | None = None
    spacing_mm: Annotated[tuple[Millimeters, ...], Field(min_length=2, max_length=3)] | None = None
    intensity: Literal["zscore", "unit"] = "zscore"
    channels: int = Field(default=1, ge=1, le=16)

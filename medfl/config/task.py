"""What the network has to say about a study."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medfl.config.base import Axes, Settings


class Segmentation(Settings):
    """A label for every voxel.

    Attributes
    ----------
    classes : dict of str to int
        Structure name to its value in the mask file; everything else is background.
    ignore_value : int or None
        Mask value that counts neither for nor against the model.
    dimensions : 2 or 3
    patch : tuple of int
        (H, W) or (D, H, W) the network sees at once; smaller images are padded, larger ones cropped at random in
        training.
    sliding_window : bool
        Cover an image by overlapping patches in inference; else the whole image is padded and seen at once.
    surface_tolerance_mm : float
        Tolerance of the normalized surface distance.
    """

    kind: Literal["segmentation"]
    classes: dict[str, int] = Field(min_length=1, max_length=64)
    ignore_value: int | None = None
    dimensions: Literal[2, 3]
    patch: Axes
    sliding_window: bool = False
    surface_tolerance_mm: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "Segmentation":
        if len(self.patch) != self.dimensions:
            raise ValueError(f"patch must have {self.dimensions} numbers, got {len(self.patch)}")
        values = list(self.classes.values())
        if len(set(values)) != len(values) or any(not 1 <= value <= 255 for value in values):
            raise ValueError(f"classes must map to distinct values in 1..255, got {sorted(values)}")
        if self.ignore_value in values:
            raise ValueError(f"ignore_value must not be the value of a class, got {self.ignore_value}")
        return self


class Classification(Settings):
    """One label for every study.

    Attributes
    ----------
    classes : dict of str to list of str
        Class name to the target values that mean it, in order; the last class is the positive one of two.
    dimensions : 2 or 3
    """

    kind: Literal["classification"]
    classes: dict[str, tuple[str, ...]] = Field(min_length=2, max_length=64)
    dimensions: Literal[2, 3]

    @model_validator(mode="after")
    def _fits(self) -> "Classification":
        labels = [label for labels in self.classes.values() for label in labels]
        if len(set(labels)) != len(labels) or not all(self.classes.values()):
            raise ValueError("every class must name at least one label, and no label may stand in two classes")
        return self


Task = Annotated[Segmentation | Classification, Field(discriminator="kind")]

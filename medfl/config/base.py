"""What all settings share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=4096)]
Axes = Annotated[tuple[Count, ...], Field(min_length=2, max_length=3)]
Widths = Annotated[tuple[Count, ...], Field(min_length=2, max_length=8)]


class Settings(BaseModel):
    """Frozen settings in which an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

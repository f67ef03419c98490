"""What all settings share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(gt=0, lt=1)]
Axes = Annotated[tuple[int, ...], Field(min_length=2, max_length=3)]
Widths = Annotated[tuple[int, ...], Field(min_length=2, max_length=8)]


class Settings(BaseModel):
    """Frozen settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

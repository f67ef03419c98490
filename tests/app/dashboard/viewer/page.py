"""The page that the browser tests open: one viewer, and below it what Python heard of a click.

Query: ``case`` names a folder of `VIEWER_CASES` with an image and optional masks; ``engine`` and
``limit`` are passed on.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

import streamlit as st

from app.dashboard.viewer.component import show_volume
from app.dashboard.viewer.prepared import LARGEST_BYTES, PreparedVolume, prepared_volume
from app.dashboard.viewer.structures import structures_of


@st.cache_data(max_entries=4)
def prepared(folder: str, limit: int) -> PreparedVolume:
    """Read the files of a case."""
    files = {path.name.split(".")[0]: path for path in Path(folder).iterdir()}
    return prepared_volume(
        files["image"], reference=files.get("reference"), model=files.get("model"), largest_bytes=limit
    )


st.set_page_config(layout="wide")
case = Path(os.environ["VIEWER_CASES"]) / Path(st.query_params["case"]).name
shown = prepared(str(case), int(st.query_params.get("limit", LARGEST_BYTES)))
selection = show_volume(
    shown,
    key="viewer",
    structures=structures_of(json.loads((case / "classes.json").read_text())),
    engine=st.query_params.get("engine", "auto"),  # type: ignore[arg-type]
)
st.code(json.dumps(asdict(selection)) if selection else "nothing selected", language=None)

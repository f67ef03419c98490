"""Where the image and the reference mask of every study of a run lie; runs in a process of its own.

Finding them may mean to import a data set anew, which takes minutes and libraries that the dashboard does without.

Usage: ``python -m app.dashboard.study_index RUN``; prints ``{"STUDY": ["IMAGE", "REFERENCE MASK OR EMPTY"]}``.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from medfl.data.manifest import Manifest


def paths_of(manifest: Manifest) -> Mapping[str, tuple[str, str]]:
    """Return study -> (image, reference mask or "") as absolute paths."""
    return {
        row.study: (str(manifest.image_path(row)), str(manifest.target_path(row)) if row.has_mask else "")
        for row in manifest.rows
    }


def main() -> None:
    """Print the index of one run as JSON."""
    from medfl.config.reading import parse_config
    from medfl.results.store import RunStore
    from pipelines.sources import load_sites

    text, _ = RunStore(Path(sys.argv[1])).read_settings()
    json.dump(paths_of(load_sites(parse_config(text, source="config.yaml"))), sys.stdout)


if __name__ == "__main__":
    main()

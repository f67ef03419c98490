"""Everything a run will do, as one value with one hash."""

import platform
from collections.abc import Mapping
from typing import Any

import medfl
from medfl.config.settings import Config
from medfl.results.canonical import sha256


def make_plan(config: Config, data_digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the plan.

    Parameters
    ----------
    config : Config
    data_digests : mapping of str to str
        Site -> SHA-256 of its manifest rows.

    Returns
    -------
    dict
        With "sha256" over everything that decides the result: settings, code version and data.
    """
    settings = config.model_dump(mode="json")
    decided = {
        "schema": "medfl/plan/1",
        "name": config.name,
        "config_sha256": sha256(settings),
        "code_version": medfl.__version__,
        "data": dict(data_digests),
    }
    return {**decided, "sha256": sha256(decided), "python": platform.python_version()}

"""The bundle that Flower carries for a plan: no code, only the names of two installed apps and the plan itself.

It is a function of the plan alone, so a site computes its hash by itself and compares it with what arrives. Its bytes
are those that Flower's own build gives for the same files: stored, not compressed, entries in order, with one date.
"""

import hashlib
import io
import zipfile

from medfl.governance.plan import Plan
from pipelines.run_config import OUT, PLAN, SITES

PROJECT, PLAN_FILE = "pyproject.toml", "plan.json"
_LISTING = ".info/CONTENT"
_DATE = (2024, 10, 1, 0, 0, 0)

_PROJECT_TEXT = """\
[project]
name = "medfl-plan"
version = "{version}"
description = "A plan for sites that have medfl installed; holds no code"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "medfl"

[tool.flwr.app.components]
serverapp = "pipelines.server_app:app"
clientapp = "pipelines.client_app:app"

[tool.flwr.app.config]
{plan} = ""
{out} = ""
{sites} = 0
"""


def bundle_files(plan: Plan) -> dict[str, bytes]:
    """Return the files of a folder that `flwr run FOLDER` takes, by name.

    Parameters
    ----------
    plan : Plan
    """
    project = _PROJECT_TEXT.format(version=plan.medfl_version, plan=PLAN, out=OUT, sites=SITES)
    return {PROJECT: project.encode(), PLAN_FILE: plan.canonical()}


def thin_bundle(plan: Plan) -> bytes:
    """Return the bundle, a zip archive.

    Parameters
    ----------
    plan : Plan
    """
    files = bundle_files(plan)
    listing = "\n".join(
        f"{name},{hashlib.sha256(content).hexdigest()},{8 * len(content)}" for name, content in files.items()
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in {**files, _LISTING: listing.encode()}.items():
            file.writestr(zipfile.ZipInfo(name, _DATE), content)
    return archive.getvalue()


def bundle_sha256(plan: Plan) -> str:
    """Return the SHA-256 of the bundle, which Flower calls the hash of the app."""
    return hashlib.sha256(thin_bundle(plan)).hexdigest()

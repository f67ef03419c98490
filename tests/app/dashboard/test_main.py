import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.conftest import OpenMain, texts
from dashboard.run_folders import segmentation_run


def test_the_dashboard_imports_no_torch() -> None:
    code = (
        "import sys, app.dashboard.serving, app.dashboard.screens.cases, app.dashboard.screens.my_site, "
        "app.dashboard.screens.privacy, app.dashboard.screens.training, app.dashboard.screens.model; "
        "print(sorted({'torch', 'monai', 'flwr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_first_page_names_run_state_and_research_use(open_main: OpenMain, tmp_path: Path) -> None:
    segmentation_run(tmp_path / "one", cases=1)
    test = open_main(tmp_path)
    assert test.selectbox(key="run").value == "one"
    html = "".join(str(one.proto.body) for one in test.get("html"))
    assert "Research use only" in html
    assert "Reading only" in texts(test)


def test_an_empty_folder_says_that_there_is_no_run(open_main: OpenMain, tmp_path: Path) -> None:
    assert "There is no run in this folder yet" in texts(open_main(tmp_path))


def test_the_language_can_be_changed(open_main: OpenMain, tmp_path: Path) -> None:
    assert "noch kein Lauf" in texts(open_main(tmp_path, language="de"))


@pytest.mark.parametrize("content", ["", "nonsense: [", "{}"])
def test_a_foreign_folder_opens_with_a_sentence(open_main: OpenMain, tmp_path: Path, content: str) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.yaml").write_text(content)
    assert "no cases yet" in texts(open_main(tmp_path))

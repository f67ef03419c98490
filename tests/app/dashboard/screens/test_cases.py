import shutil
from pathlib import Path

import pytest

from app.dashboard.reading import read_cases
from app.dashboard.screens.cases import listed_cases, ordered
from dashboard.conftest import OpenScreen, texts
from dashboard.run_folders import NASTY, SITES, classification_run, entry, segmentation_run
from medfl.governance.case_flags import CaseFlags
from medfl.results.store import RunStore


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentation_run(tmp_path_factory.mktemp("runs") / "tiny", cases=11)


@pytest.fixture
def site(run: Path, tmp_path: Path) -> Path:
    """State folder of a site whose manifest names the images."""
    (tmp_path / "state").mkdir()
    data = run.parent / f"{run.name} data"
    for path in data.iterdir():
        shutil.copy(path, tmp_path / "state" / path.name)
    return tmp_path / "state"


def test_the_worst_case_is_open_with_its_image_and_sizes_of_structures(
    open_screen: OpenScreen, run: Path, site: Path
) -> None:
    said = texts(open_screen("cases", run, site=site))
    assert "south\\-s10" in said
    assert "less than in nine of ten cases" in said
    assert "more uncertain than in nine of ten cases" in said
    sizes = 4 * 5 * 4 * 1.0 * 2.0 * 3.0 / 1000
    assert f"{sizes:.2f}" in said
    assert "cannot be" not in said


def test_images_are_found_through_the_settings_of_the_run(open_screen: OpenScreen, run: Path) -> None:
    test = open_screen("cases", run)
    assert "cannot be found" not in texts(test)
    assert test.get("bidi_component")


def test_a_case_whose_image_is_gone_says_so_and_keeps_its_numbers(
    open_screen: OpenScreen, run: Path, site: Path
) -> None:
    (site / "south-s10.nii.gz").unlink()
    said = texts(open_screen("cases", run, site=site))
    assert "not on this computer" in said
    assert "Dice 0." in said


def test_a_damaged_image_and_a_mask_that_does_not_fit_are_named(open_screen: OpenScreen, run: Path, site: Path) -> None:
    (site / "south-s10-mask.nii.gz").write_bytes(b"not an image")
    assert "reference mask of this case cannot be shown" in texts(open_screen("cases", run, site=site))
    (site / "south-s10.nii.gz").write_bytes(b"not an image")
    assert "cannot be read: it is damaged" in texts(open_screen("cases", run, site=site))


def test_images_that_the_settings_do_not_lead_to_are_reported_in_one_sentence(
    open_screen: OpenScreen, tmp_path: Path
) -> None:
    said = texts(open_screen("cases", classification_run(tmp_path / "xray")))
    assert "cannot be found on this computer" in said
    assert "The model says" in said
    assert "nowhere.csv" not in said


def test_confidence_is_told_as_how_often_the_model_was_right(open_screen: OpenScreen, tmp_path: Path) -> None:
    said = texts(open_screen("cases", classification_run(tmp_path / "xray", cases=120)))
    assert "it was right in" in said


def test_previous_and_next_walk_through_the_list(open_screen: OpenScreen, run: Path, site: Path) -> None:
    test = open_screen("cases", run, site=site)
    first, second = test.button[0], test.button[1]
    assert (first.label, first.disabled, second.label) == ("◀", True, "▶")
    said = texts(second.click().run())
    assert "Case 2 of 22" in said
    assert "north\\-s10" in said


def test_filters_by_site_and_uncertainty_shorten_the_list(open_screen: OpenScreen, run: Path, site: Path) -> None:
    test = open_screen("cases", run, site=site)
    test.selectbox(key="case site").set_value("north").run()
    assert "Case 1 of 11" in texts(test)
    test.get("button_group")[0].set_value(["doubtful"]).run()
    assert "Case 1 of 1" in texts(test)


def test_a_flag_needs_a_site_a_role_and_a_reason(open_screen: OpenScreen, run: Path, site: Path) -> None:
    assert "without one" in texts(open_screen("cases", run))
    assert "your role does not allow it" in texts(open_screen("cases", run, site=site))
    assert "your role does not allow it" in texts(open_screen("cases", run, site=site, role="privacy officer"))
    test = open_screen("cases", run, site=site, role="clinician")
    flag = next(button for button in test.button if button.label == "Flag")
    assert "Please give a reason" in texts(flag.click().run())
    assert CaseFlags(site).read().lines == ()


def test_a_flag_is_written_shown_and_taken_back(open_screen: OpenScreen, run: Path, site: Path) -> None:
    test = open_screen("cases", run, site=site, role="clinician")
    test.text_input[-1].set_value("tip missed")
    next(button for button in test.button if button.label == "Flag").click().run()
    (line,) = CaseFlags(site).read().lines
    assert (line.study, line.mark, line.reason, line.run) == ("south-s10", "flagged", "tip missed", "tiny abababababab")
    again = open_screen("cases", run, site=site, role="clinician")
    assert "This case is flagged" in texts(again)
    again.text_input[-1].set_value("seen again")
    next(button for button in again.button if button.label == "Take the flag back").click().run()
    assert [line.mark for line in CaseFlags(site).read().lines] == ["flagged", "withdrawn"]
    assert "This case is flagged" not in texts(again)


def test_an_accession_number_leads_to_the_case_for_clinicians_alone(
    open_screen: OpenScreen, run: Path, site: Path
) -> None:
    table = site / "accessions.csv"
    table.write_text("accession,pseudonym\nA-77,north-s3\n")
    table.chmod(0o600)
    assert len(open_screen("cases", run, site=site).text_input) == 0
    test = open_screen("cases", run, site=site, role="clinician")
    test.text_input[0].set_value("A-77").run()
    next(button for button in test.button if "north" in button.label).click().run()
    assert "north\\-p3" in texts(test)
    test.text_input[0].set_value("A-78").run()
    assert "No case of this run" in texts(test)


def test_nothing_is_ever_written_into_the_run_folder(open_screen: OpenScreen, run: Path, site: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    test = open_screen("cases", run, site=site, role="clinician")
    test.text_input[-1].set_value("why")
    next(button for button in test.button if button.label == "Flag").click().run()
    assert CaseFlags(site).read().lines
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    "content", [b"", b"site,study\n", b"a,b\n1,2\n", b"\xff\xfe\x00", b'site,study\n"x', b"site,study\n\x00,\x00\n"]
)
def test_a_broken_list_opens_with_a_sentence(
    open_screen: OpenScreen, run: Path, tmp_path: Path, content: bytes
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(run, folder)
    (folder / "cases.csv").write_bytes(content)
    assert texts(open_screen("cases", folder))


def test_a_running_run_says_that_cases_come_later(open_screen: OpenScreen, tmp_path: Path) -> None:
    run = segmentation_run(tmp_path / "live", cases=1, finished=False)
    assert "no cases yet" in texts(open_screen("cases", run))


def test_names_are_shown_letter_by_letter(open_screen: OpenScreen, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nasty"
    shutil.copytree(run, folder)
    RunStore(folder).write_cases("north", ["site", "subject", "study", "dice/left"], [["north", NASTY, NASTY, "0.5"]])
    (folder / "cases.csv").write_bytes((folder / "cases" / "north.csv").read_bytes())
    said = texts(open_screen("cases", folder))
    assert "\\<img src\\=x" in said
    assert "\\!\\[x\\]\\(http\\:" in said


def test_everything_can_be_read_in_german(open_screen: OpenScreen, run: Path, site: Path) -> None:
    said = texts(open_screen("cases", run, site=site, language="de"))
    assert "weniger überein als in neun von zehn Fällen" in said
    assert "Fall 1 von 22" in said


def test_orders_put_the_worst_or_the_most_uncertain_first(run: Path) -> None:
    listed = listed_cases(read_cases(entry(run)), {})
    worst = [one.case.score or 0 for one in ordered(listed, "worst")]
    assert worst == sorted(worst)
    doubts = [one.doubt for one in ordered(listed, "doubt")]
    assert doubts == sorted(doubts, reverse=True)
    assert {one.case.site for one in listed} == set(SITES)

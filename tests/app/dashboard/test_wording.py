import re
from pathlib import Path

import pytest

from app.dashboard.serving import MAIN
from app.dashboard.viewer.words import ENGLISH
from app.dashboard.wording import LANGUAGES, preferred, wording

PLACES = re.compile(r"{(\w+)}")
USED = re.compile(r"words\[\"([^\"]+)\"\]")
SOURCES = [path for path in (*MAIN.parent.glob("*.py"), *MAIN.parent.glob("screens/*.py"))]


def test_both_languages_have_every_text_with_the_same_places() -> None:
    english, german = (wording(language).texts for language in LANGUAGES)
    assert english.keys() == german.keys()
    for name in english:
        assert sorted(PLACES.findall(english[name])) == sorted(PLACES.findall(german[name])), name
        assert english[name].strip()
        assert german[name].strip()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: Path(path).name)
def test_every_text_that_a_page_asks_for_is_there(path: Path) -> None:
    for name in USED.findall(path.read_text(encoding="utf-8")):
        assert name in wording("en").texts, name


def test_the_viewer_has_all_its_words_in_both_languages() -> None:
    for language in LANGUAGES:
        assert wording(language).viewer().keys() == ENGLISH.keys()
    translated = {name for name in wording("de").texts if name.startswith("viewer ")}
    assert translated == {f"viewer {name}" for name in ENGLISH}


def test_numbers_follow_the_language() -> None:
    assert wording("en").number(1234.5, 1) == "1,234.5"
    assert wording("de").number(1234.5, 1) == "1.234,5"
    assert wording("de").number(None) == wording("en").number(float("nan")) == "—"
    assert wording("en").number(float("inf")) == "∞"
    assert wording("de").interval(0.5, 0.75) == "0,50 bis 0,75"
    assert wording("en").size(1_155_920) == "1.2 MB"
    assert wording("en").duration(7200) == "2.0 hours"


def test_a_browsers_language_is_followed() -> None:
    assert [preferred(locale) for locale in ("de-AT", "en-US", "fr", None)] == ["de", "en", "en", "en"]

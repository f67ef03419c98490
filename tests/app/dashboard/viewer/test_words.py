import pytest

from app.dashboard.viewer.words import ENGLISH, checked_words
from medfl.errors import ConfigError


def test_the_english_words_are_complete() -> None:
    assert checked_words(ENGLISH) == dict(ENGLISH)


def test_research_use_only_is_among_them() -> None:
    assert "Research use only" in ENGLISH["research_use_only"]


@pytest.mark.parametrize("change", [{"axial": None}, {"novel": "x"}])
def test_missing_and_unknown_words_are_named(change: dict[str, str | None]) -> None:
    words = {key: word for key, word in (dict(ENGLISH) | change).items() if word is not None}
    with pytest.raises(ConfigError, match=next(iter(change))):
        checked_words(words)

from typing import get_args

import pytest

from medfl.audit.wording import Language, in_language, reason_text, words
from medfl.results.attack import Family, Knowledge
from medfl.results.report import ReasonCode

CODES = [code for code in get_args(ReasonCode) if code]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@pytest.mark.parametrize("code", CODES)
def test_every_reason_has_a_sentence_in_both_languages_that_names_the_same(code: str) -> None:
    english, german = (reason_text(code, ("NAME",), language) for language in LANGUAGES)
    assert english != german
    assert english.count("NAME") == german.count("NAME")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_family_and_every_kind_of_knowledge_has_a_name(language: Language) -> None:
    table = words(language)
    assert all(name in table for name in get_args(Family))
    assert all(f"knows {name}" in table for name in get_args(Knowledge))


def test_the_family_in_front_is_translated_and_what_follows_is_kept() -> None:
    assert (
        in_language("linkage: anchored ridge (64 known images)", "de")
        == "Verknüpfung: anchored ridge (64 known images)"
    )
    assert in_language("gradient inversion by DLG", "de") == "Umkehrung von Gradienten durch DLG"
    assert in_language("inversion", "de") == "Umkehrung"
    assert in_language("attributes: left out by --attacks", "de") == "Merkmale: durch --attacks ausgelassen"


@pytest.mark.parametrize("text", ["linkage across sites", "a word", "", "<b>linkage</b>"])
def test_other_text_is_left_alone(text: str) -> None:
    assert in_language(text, "de") == text


@pytest.mark.parametrize("text", ["linkage: x", "membership", "not stated", "none", "linkage by maps"])
def test_english_stays_english(text: str) -> None:
    assert in_language(text, "en") == text


def test_braces_in_a_name_are_no_placeholder() -> None:
    assert reason_text("too few", ("a {0} b",), "en").count("{0}") == 1

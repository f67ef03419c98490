"""What a report says, in its two languages: fixed sentences are translated, names and free text stay as they are."""

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Literal, get_args

from medfl.results.attack import Family

Language = Literal["en", "de"]
_LANGUAGES: tuple[Language, ...] = get_args(Language)
_FAMILIES: tuple[Family, ...] = get_args(Family)
_PHRASE = "phrase "


def words(language: Language) -> dict[str, str]:
    """Return every text of the page in one language."""
    return {name: texts[_LANGUAGES.index(language)] for name, texts in _table().items()}


def reason_text(code: str, arguments: Sequence[str], language: Language) -> str:
    """Return the sentence that gives the reason for an answer.

    Parameters
    ----------
    code : str
        `Verdict.reason_code`.
    arguments : sequence of str
        `Verdict.reason_arguments`; they are listed where the sentence has room for them.
    language : "en" or "de"
    """
    return words(language)[f"reason {code}"].format(", ".join(in_language(one, language) for one in arguments))


def in_language(text: str, language: Language) -> str:
    """Return a fixed sentence, or the family of attacks that a text begins with, in a language; all else is kept."""
    english, wanted = words("en"), words(language)
    for name, sentence in english.items():
        if name.startswith(_PHRASE) and sentence == text:
            return wanted[name]
    for family in _FAMILIES:
        for joint in ("", ": ", " by "):
            if text == family or (joint and text.startswith(family + joint)):
                rest = text[len(family) + len(joint) :]
                return wanted[family] + (wanted["by"] if joint == " by " else joint) + in_language(rest, language)
    return text


@cache
def _table() -> dict[str, list[str]]:
    table = json.loads(resources.files("medfl.audit").joinpath("words.json").read_text(encoding="utf-8"))
    assert isinstance(table, dict)
    return table

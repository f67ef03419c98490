"""Every word of the dashboard, in its two languages, from one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

from app.dashboard.viewer.words import ENGLISH

Language = Literal["en", "de"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
NO_VALUE = "—"
_VIEWER = "viewer "
_METRIC = "metric "


@dataclass(frozen=True)
class Wording:
    """Texts and numbers of one language.

    Attributes
    ----------
    language : "en" or "de"
    texts : mapping of str to str
    """

    language: Language
    texts: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """Return one text; places in braces are for `str.format`."""
        return self.texts[name]

    def number(self, value: float | None, digits: int = 2) -> str:
        """Return a number with the language's decimal sign; a dash where there is none."""
        if value is None or value != value:
            return NO_VALUE
        text = "∞" if value in (float("inf"), float("-inf")) else f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "de" else text

    def interval(self, low: float | None, high: float | None, digits: int = 2) -> str:
        """Return "low to high"; a dash where there is no interval."""
        if low is None or high is None:
            return NO_VALUE
        return self["range"].format(low=self.number(low, digits), high=self.number(high, digits))

    def size(self, count: int) -> str:
        """Return a number of bytes in a unit that fits."""
        for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if count >= scale:
                return f"{self.number(count / scale, 1)} {unit}"
        return f"{count} B"

    def duration(self, seconds: float) -> str:
        """Return a length of time in words."""
        if seconds < 1:
            return self["under a second"]
        if seconds < 90:
            return self["seconds"].format(n=round(seconds))
        if seconds < 5400:
            return self["minutes"].format(n=round(seconds / 60))
        return self["hours"].format(n=self.number(seconds / 3600, 1))

    def metric(self, name: str) -> str:
        """Return what a metric of `metrics.json` is called; "dice_mean/left" keeps its class."""
        kind, slash, part = name.partition("/")
        known = self.texts.get(_METRIC + kind.split("@")[0], kind)
        known = f"{known} ({kind.partition('@')[2]})" if "@" in kind else known
        return f"{known}: {part}" if slash else known

    def viewer(self) -> dict[str, str]:
        """Return the viewer's words; one that has no translation yet stays English."""
        return {name: self.texts.get(_VIEWER + name, english) for name, english in ENGLISH.items()}


@cache
def wording(language: Language) -> Wording:
    """Return the words of a language."""
    place = LANGUAGES.index(language)
    return Wording(language, {name: texts[place] for name, texts in _table().items()})


def preferred(locale: str | None) -> Language:
    """Return the language for a browser's locale, for example "de-AT"."""
    return "de" if (locale or "").lower().startswith("de") else "en"


@cache
def _table() -> dict[str, list[str]]:
    table = json.loads(resources.files("app.dashboard").joinpath("words.json").read_text(encoding="utf-8"))
    assert isinstance(table, dict)
    return table

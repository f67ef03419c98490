"""Names that came out of a run folder, made harmless: nobody vouches for what stands in one."""

import html
import re

LONGEST = 120
SENTENCES = 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def line(text: object, longest: int = LONGEST) -> str:
    """Return a text as one printable line of at most `longest` characters, for places that show text as it is."""
    clean = _CONTROL.sub(" ", str(text)).strip()
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


def markdown(text: object, longest: int = LONGEST) -> str:
    """Return a text that Markdown shows letter by letter: no link, no picture, no HTML, no formula."""
    return _PUNCTUATION.sub(r"\\\1", line(text, longest))


def html_text(text: object) -> str:
    """Return a text for HTML."""
    return html.escape(line(text))


def document(text: str) -> str:
    """Return a Markdown document in which headings, lists, tables and bold type work, and nothing else does.

    Parameters
    ----------
    text : str
        For example a model card; links, pictures, HTML, formulas and directives are shown as they were typed.
    """
    return re.sub(r"([<>\[\]$:!`~\\&])", r"\\\1", _CONTROL_BUT_LINES.sub(" ", text))

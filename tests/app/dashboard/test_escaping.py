import html
import re

from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.escaping import document, html_text, line, markdown
from dashboard.run_folders import NASTY

ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")


@given(st.text(max_size=300))
def test_a_line_is_printable_short_and_one_line(text: str) -> None:
    shown = line(text)
    assert len(shown) <= 120
    assert "\n" not in shown
    assert not re.search(r"[\x00-\x1f\u202e]", shown)


@given(st.text(max_size=100))
def test_every_mark_of_markdown_is_escaped_and_nothing_is_lost(text: str) -> None:
    assert ESCAPED.sub(r"\1", markdown(text)) == line(text)
    assert not re.search(r"(?<!\\)[<>\[\]$*_`:]", ESCAPED.sub("", markdown(text)))


@given(st.text(max_size=100))
def test_html_is_shown_as_text(text: str) -> None:
    assert "<" not in html_text(text)
    assert html.unescape(html_text(text)) == line(text)


def test_a_document_keeps_tables_and_bold_type_and_loses_links_pictures_and_html() -> None:
    shown = document(f"# Card\n\n**bold**\n\n| a |\n|---|\n\n{NASTY}\n\n<https://evil.example>")
    assert "# Card\n\n**bold**\n\n| a |\n|---|" in shown
    for mark in "<>[]$!":
        assert not re.search(rf"(?<!\\){re.escape(mark)}", shown)

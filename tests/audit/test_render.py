import io
import re
from collections.abc import Callable

import pytest
from PIL import ImageFile
from pypdf import PdfReader

from medfl.audit.figures import cmc_figure, intervals_figure, roc_figure
from medfl.audit.render import Language, render_html, render_pdf, words
from medfl.errors import AuditError
from tests.audit.reports import attack, report

LANGUAGES: tuple[Language, ...] = ("en", "de")
FIGURES = {
    "intervals": intervals_figure([attack(0.6)]),
    "roc": roc_figure({"lda": ([0.001, 0.1, 1.0], [0.1, 0.5, 1.0])}),
    "cmc": cmc_figure({"lda": ([1.0, 10.0], [0.2, 1.0])}),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_fetches_nothing_and_runs_nothing(language: Language) -> None:
    page = render_html(report(), language, FIGURES)
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page)
    assert f'<html lang="{language}">' in page


def test_markup_in_names_is_escaped() -> None:
    page = render_html(report(run="<script>alert(1)</script>"), "en", {})
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("status", ["below margin", "above margin", "inconclusive", "invalid"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_verdict_is_a_word_and_a_sign_and_not_a_color_alone(language: Language, status: str) -> None:
    page = render_html(report(status=status), language, {})
    assert page.count(words(language)[status]) >= 3
    assert len(re.findall(r'<p class="status">[✓▲?✗] ', page)) == 3


def test_both_languages_say_everything_and_never_anonymous() -> None:
    english, german = words("en"), words("de")
    assert english.keys() == german.keys()
    assert all(text.strip() for table in (english, german) for text in table.values())
    assert not any("anonym" in text.lower() for table in (english, german) for text in table.values())


def test_figures_have_words_and_equal_input_gives_equal_bytes() -> None:
    page = render_html(report(), "en", FIGURES)
    assert page.count('role="img"') == 3
    assert all(figure.alt in page for figure in FIGURES.values())
    assert intervals_figure([attack(0.6)]).svg == FIGURES["intervals"].svg


@pytest.fixture
def printing(require: Callable[[bool, str], None]) -> None:
    try:
        render_pdf('<html lang="en"><title>x</title></html>')
    except AuditError as error:
        require(False, str(error))


@pytest.mark.usefixtures("printing")
def test_the_print_is_a_tagged_pdf_with_title_and_language() -> None:
    made = render_pdf(render_html(report(), "de", FIGURES))
    assert made.startswith(b"%PDF")
    read = PdfReader(io.BytesIO(made))
    root = read.trailer["/Root"].get_object()
    assert str(root["/MarkInfo"]["/Marked"]) == "True"
    assert root["/Lang"] == "de"
    assert read.metadata is not None
    assert "Bericht" in str(read.metadata.title)


@pytest.mark.usefixtures("printing")
@pytest.mark.parametrize("address", ["file:///etc/hostname", "http://127.0.0.1:9/x.png"])
def test_a_print_that_would_fetch_something_is_refused(address: str) -> None:
    with pytest.raises(AuditError, match="asks for another file"):
        render_pdf(f'<html lang="en"><title>x</title><img alt="" src="{address}"></html>')


def test_a_formula_in_a_name_is_drawn_as_it_is() -> None:
    assert intervals_figure([attack(0.2, name=r"a$\bad{$")]).svg.startswith("<svg")


@pytest.mark.usefixtures("printing")
def test_printing_leaves_damaged_images_refused_elsewhere() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False

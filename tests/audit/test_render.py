import io
import re
from collections.abc import Callable
from html import unescape

import numpy as np
import pytest
from PIL import ImageFile
from pypdf import PdfReader
from pypdf.generic import PdfObject

from medfl.audit.figures import Row, cmc_figure, intervals_figure, roc_figure
from medfl.audit.picture_digests import picture_digest
from medfl.audit.pictures import picture_of
from medfl.audit.render import render_html, render_pdf
from medfl.audit.verdicts import verdicts
from medfl.audit.wording import Language, words
from medfl.errors import AuditError
from medfl.governance.policy import AuditPolicy
from medfl.results.canaries import CanaryCheck
from medfl.results.privacy import Balance, Release
from medfl.results.report import AuditReport
from tests.audit.reports import attack, family, report

LANGUAGES: tuple[Language, ...] = ("en", "de")
PICTURE = picture_of("decoder", "The best of 60.", [("original", np.eye(9)), ('"rebuilt"', 1 - np.eye(9))], (0.0, 1.0))
FIGURES = {
    "intervals": intervals_figure([Row(attack(0.6))]),
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
    assert intervals_figure([Row(attack(0.6))]).svg == FIGURES["intervals"].svg


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
    assert intervals_figure([Row(attack(0.2, name=r"a$\bad{$"))]).svg.startswith("<svg")


@pytest.mark.usefixtures("printing")
def test_printing_leaves_damaged_images_refused_elsewhere() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def alternatives(node: object) -> set[str]:
    """Collect every text for who cannot see, from the tree of tags."""
    found = node.get_object() if isinstance(node, PdfObject) else node
    if isinstance(found, list):
        return {text for one in found for text in alternatives(one)}
    if not isinstance(found, dict):
        return set()
    own = {str(found["/Alt"])} if "/Alt" in found else set()
    return own | alternatives(found.get("/K"))


def with_picture() -> AuditReport:
    return report().model_copy(update={"pictures": (picture_digest(PICTURE),)})


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_patient_is_shown_only_where_it_was_asked_for_and_the_page_says_so(language: Language) -> None:
    table = words(language)
    without = unescape(render_html(with_picture(), language, {}))
    assert "<img" not in without
    assert "--with-pictures" in without
    assert table["worst left out"].format(1) in without
    assert picture_digest(PICTURE).sha256 in without
    shown = render_html(with_picture(), language, {}, [PICTURE])
    assert shown.count("<img alt=") == 2
    assert 'alt="decoder: &#34;rebuilt&#34;"' in shown
    assert table["worst warning"] in unescape(shown)
    assert "--with-pictures" not in shown
    assert "img-src data:" in shown
    assert table["worst"] not in render_html(report(), language, {})


def test_a_picture_that_the_report_does_not_name_is_refused() -> None:
    other = PICTURE.model_copy(update={"panels": PICTURE.panels[:1]})
    for given, pictures in ((report(), [PICTURE]), (with_picture(), [other])):
        with pytest.raises(AuditError, match="one that the report names"):
            render_html(given, "en", {}, pictures)
    broken = PICTURE.model_copy(update={"panels": (("original", '"><script>'),)})
    with pytest.raises(AuditError, match="PNG as base64"):
        render_html(with_picture(), "en", {}, [broken])


@pytest.mark.usefixtures("printing")
def test_pictures_are_printed_with_words_for_who_cannot_see_them() -> None:
    read = PdfReader(io.BytesIO(render_pdf(render_html(with_picture(), "en", {}, [PICTURE]))))
    assert len({image.name for page in read.pages for image in page.images}) == 2
    root = read.trailer["/Root"].get_object()
    assert {"decoder: original", 'decoder: "rebuilt"'} <= alternatives(root["/StructTreeRoot"]["/K"])


def test_a_verdicts_reason_is_said_in_the_language_of_the_page_and_signed_in_english() -> None:
    found = verdicts([family("re-identification", attack(0.7))], AuditPolicy())
    given = report().model_copy(update={"verdicts": found})
    german, english = (render_html(given, language, {}) for language in ("de", "en"))
    assert "Wiedererkennung: lda fand mehr, als die Grenze erlaubt." in german
    assert "found more than the margin allows" not in german
    assert all(one.reason in english for one in found)
    assert "unter 0.550" in german


def test_a_reason_of_an_older_report_is_shown_as_it_was_signed() -> None:
    assert "A reason." in render_html(report(), "de", {})


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_finite_epsilon_comes_with_its_mechanism_and_is_not_said_of_everything(language: Language) -> None:
    facts = {"site": "a", "what": "features", "subjects": 10, "times": 1, "epsilon": 3.0, "delta": 1e-4}
    facts |= {"adjacency": "replace one", "accountant": "PLD", "release_model": "once", "mechanism": "GaussianDpEvent"}
    noised = Release.model_validate(facts)
    plain = Release(site="a", what="labels", subjects=10, times=1)
    page = render_html(report().model_copy(update={"releases": (noised, plain)}), language, {})
    assert f"{words(language)['mechanism']}: GaussianDpEvent" in page
    assert words(language)["not all private"] in page
    alone = render_html(report().model_copy(update={"releases": (noised,)}), language, {})
    assert words(language)["not all private"] not in alone


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_ledgers_booked_and_canaries_show_stands_under_differential_privacy(language: Language) -> None:
    bare = unescape(render_html(report(), language, {}))
    assert words(language)["ledger"] not in bare
    balance = Balance(
        site="north",
        data_set="chest x-ray",
        purpose="research",
        spent=3.75,
        limit=float("inf"),
        delta=1e-6,
        adjacency="replace one subject",
        entries=12,
        head="25:ab",
    )
    check = CanaryCheck(
        site="north",
        canaries=1000,
        steps=150,
        claimed=1.25,
        delta=1e-5,
        lower_bound=2.0,
        ceiling=5.56,
        assumption="fair coins",
        flagged=True,
        words="flagged",
    )
    page = render_html(report().model_copy(update={"balances": (balance,), "canaries": (check,)}), language, {})
    for text in (words(language)["ledger"], "3.75", "1.25", "5.56", "✗ " + words(language)["contradicted"]):
        assert text in unescape(page)

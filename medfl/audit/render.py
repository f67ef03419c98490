"""The report as a page and as a print; both say what `report.json` says and nothing else."""

from collections.abc import Mapping, Sequence
from importlib import resources

from medfl.attacks.feature_inversion import KNOWN_IMAGES
from medfl.audit.figures import Figure
from medfl.audit.picture_digests import check_pictures, picture_digest
from medfl.audit.pictures import Picture
from medfl.audit.wording import Language, in_language, reason_text, words
from medfl.errors import AuditError
from medfl.results.audit_store import report_digest
from medfl.results.report import AuditReport, Verdict

_SIGNS = {"below margin": "✓", "above margin": "▲", "inconclusive": "?", "invalid": "✗"}
_PICTURE = "data:image/png;base64,"


def render_html(
    report: AuditReport, language: Language, figures: Mapping[str, Figure], pictures: Sequence[Picture] = ()
) -> str:
    """Return one self-contained page without scripts; every value in it is escaped.

    Parameters
    ----------
    report : AuditReport
    language : "en" or "de"
        Of all fixed sentences; names of attacks and free text stay as they are.
    figures : mapping of str to Figure
    pictures : sequence of Picture
        Of the report, with a patient in them; those that are not handed in are listed by name and digest.

    Raises
    ------
    AuditError
        If the extra `report` is not installed, or a picture is not one that the report names.
    """
    check_pictures(pictures, report.pictures)
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise AuditError("Rendering a report needs: pip install 'medfl[report]'") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(
        resources.files("medfl.audit").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    scope = report.scope
    facts = [
        ("run", scope.run),
        ("arm", scope.arm),
        ("released", scope.released),
        ("counts", f"{scope.subjects} / {scope.studies} / {scope.sites}"),
        ("created", report.created),
        ("auditor", report.auditor),
        ("recipient", scope.recipient),
        ("key_holder", scope.key_holder),
        ("budget", report.budget),
    ]
    return template.render(
        r=report,
        w=words(language),
        language=language,
        facts=facts,
        signs=_SIGNS,
        number=_number,
        epsilon=_epsilon,
        said=lambda text: in_language(text, language),
        reason=lambda verdict: _reason(verdict, language),
        known_images=KNOWN_IMAGES,
        private=[one for one in report.releases if one.epsilon != float("inf")],
        open_releases=any(one.epsilon == float("inf") for one in report.releases),
        pictures=pictures,
        left_out=[one for one in report.pictures if one not in [picture_digest(picture) for picture in pictures]],
        figures=[{"alt": figure.alt, "drawing": Markup(figure.svg)} for figure in figures.values()],
        digest=report_digest(report),
    )


def _reason(verdict: Verdict, language: Language) -> str:
    """Return the signed sentence, or what it says in another language."""
    if language == "en" or not verdict.reason_code:
        return verdict.reason
    return reason_text(verdict.reason_code, verdict.reason_arguments, language)


def _number(value: float) -> str:
    """Return three decimals; counts have none."""
    return f"{value:.0f}" if value >= 2 and value == round(value) else f"{value:.3f}"


def _epsilon(value: float) -> str:
    """Return three significant digits, or a word where there is no limit."""
    return "infinite" if value == float("inf") else f"{value:.3g}"


def render_pdf(page: str) -> bytes:
    """Return a tagged PDF (PDF/UA-1) of the page; nothing is fetched but the pictures in the page.

    Raises
    ------
    AuditError
        If WeasyPrint or the Pango library it needs is not installed, or the page asks for anything outside itself.
    """
    from PIL import ImageFile

    strict = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        from weasyprint import HTML
        from weasyprint.urls import FatalURLFetchingError, URLFetcher
    except (ImportError, OSError) as error:
        raise AuditError(
            "A PDF needs the Pango library and: pip install 'medfl[report]'. On Debian: apt-get install "
            "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
        ) from error
    finally:  # WeasyPrint makes Pillow accept damaged images in the whole process
        ImageFile.LOAD_TRUNCATED_IMAGES = strict

    def fetch(self: object, url: str, headers: object = None) -> object:
        if not url.startswith(_PICTURE):
            raise FatalURLFetchingError("a report fetches nothing")
        return URLFetcher.fetch(self, url, headers)

    inside = type("Inside", (URLFetcher,), {"fetch": fetch})
    try:
        return bytes(HTML(string=page, url_fetcher=inside()).write_pdf(pdf_variant="pdf/ua-1"))
    except FatalURLFetchingError as error:
        raise AuditError("A report must hold everything it shows; this one asks for another file.") from error

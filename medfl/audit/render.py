"""The report as a page and as a print; both say what `report.json` says and nothing else."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Literal

from medfl.audit.figures import Figure
from medfl.errors import AuditError
from medfl.results.audit_store import report_digest
from medfl.results.report import AuditReport

Language = Literal["en", "de"]
_SIGNS = {"below margin": "✓", "above margin": "▲", "inconclusive": "?", "invalid": "✗"}


def words(language: Language) -> dict[str, str]:
    """Return every text of the page in one language."""
    table = json.loads(resources.files("medfl.audit").joinpath("words.json").read_text(encoding="utf-8"))
    return {name: texts[("en", "de").index(language)] for name, texts in table.items()}


def render_html(report: AuditReport, language: Language, figures: Mapping[str, Figure]) -> str:
    """Return one self-contained page without scripts; every value in it is escaped.

    Raises
    ------
    AuditError
        If the extra `report` is not installed.
    """
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
        number=lambda value: f"{value:.3f}",
        private=[one for one in report.releases if one.epsilon != float("inf")],
        figures=[{"alt": figure.alt, "drawing": Markup(figure.svg)} for figure in figures.values()],
        digest=report_digest(report),
    )


def render_pdf(page: str) -> bytes:
    """Return a tagged PDF (PDF/UA-1) of the page; nothing is fetched.

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
        raise FatalURLFetchingError("a report fetches nothing")

    nothing = type("Nothing", (URLFetcher,), {"fetch": fetch})
    try:
        return bytes(HTML(string=page, url_fetcher=nothing()).write_pdf(pdf_variant="pdf/ua-1"))
    except FatalURLFetchingError as error:
        raise AuditError("A report must hold everything it shows; this one asks for another file.") from error

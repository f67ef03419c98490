"""What was read, kept as long as the files stay as they are; shared by all sessions, of a few runs only."""

from pathlib import Path

import streamlit as st

from app.dashboard import audits, key_facts, ledgers, reading
from app.dashboard.case_table import Case, CaseTable
from app.dashboard.images import CaseImages, Index, find_images, load_case
from app.dashboard.runs import RunEntry, find_runs
from medfl.audit.pictures import Picture
from medfl.config.settings import Config
from medfl.results.history import History
from medfl.results.metrics import RunMetrics
from medfl.results.privacy import PrivacyRecord
from medfl.results.report import AuditReport

_RUNS = 8
_CASES = 4


@st.cache_resource(ttl=5, max_entries=4, show_spinner=False)
def runs_in(root: Path) -> tuple[RunEntry, ...]:
    """Return the run folders; looked for anew after five seconds."""
    return find_runs(root)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def config_of(run: RunEntry) -> Config:
    """Return the settings of a run."""
    return reading.read_config(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def plan_of(run: RunEntry) -> str:
    """Return the SHA-256 of the plan, or ""."""
    return reading.read_plan_digest(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def history_of(run: RunEntry) -> History:
    """Return all finished rounds."""
    return reading.read_history(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def metrics_of(run: RunEntry) -> RunMetrics:
    """Return the final metrics."""
    return reading.read_metrics(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def privacy_of(run: RunEntry) -> PrivacyRecord:
    """Return what left the sites."""
    return reading.read_privacy(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def cases_of(run: RunEntry) -> CaseTable:
    """Return the cases of the sites whose folder this is."""
    return reading.read_cases(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def card_of(run: RunEntry) -> str:
    """Return the model card."""
    return reading.read_card(run)


@st.cache_resource(max_entries=_RUNS, ttl=30, show_spinner=False)
def report_of(run: RunEntry) -> AuditReport:
    """Return the audit's report; read anew after half a minute, for it lies deeper than the run's stamp looks."""
    return reading.read_report(run)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def images_of(run: RunEntry, site: Path | None) -> Index:
    """Return where images and reference masks lie."""
    return find_images(run, site)


@st.cache_resource(max_entries=_CASES, show_spinner=False)
def case_images(run: RunEntry, site: Path | None, case: Case, labels: tuple[int, ...]) -> CaseImages | None:
    """Return image and masks of one case, ready for the browser."""
    return load_case(run, case, images_of(run, site), labels)


@st.cache_resource(max_entries=_RUNS, ttl=30, show_spinner=False)
def signature_of(run: RunEntry) -> audits.Signed:
    """Return whether the report is what was signed."""
    return audits.check_signature(run.folder)


@st.cache_resource(max_entries=_CASES, ttl=30, show_spinner=False)
def pictures_of(run: RunEntry, report: AuditReport) -> tuple[Picture, ...]:
    """Return the worst reconstructions."""
    return audits.reconstructions(run.folder, report)


def files_of(run: RunEntry) -> dict[str, bytes]:
    """Return the signed report and its prints; read when somebody asks for them, never kept."""
    return audits.signed_files(run.folder)


@st.cache_resource(max_entries=_RUNS, ttl=60, show_spinner=False)
def arms_of(run: RunEntry, others: tuple[Path, ...]) -> audits.ArmPoints | None:
    """Return protections side by side."""
    return audits.arms_beside(run.folder, others)


@st.cache_resource(max_entries=_RUNS, show_spinner=False)
def ledger_of(name: str, path: Path, changed: tuple[int, ...]) -> ledgers.LedgerView:
    """Return what stands in a ledger; `changed` are times and sizes of its files."""
    del changed
    return ledgers.read_ledger(name, path)


def ledgers_of(run: RunEntry, site: Path | None) -> tuple[ledgers.LedgerView, ...]:
    """Return the site's own ledger and those of a simulation."""
    found = ledgers.ledger_files(run.folder, site)
    return tuple(ledger_of(name, path, ledgers.changes_of(path)) for name, path in found)


@st.cache_resource(max_entries=_RUNS, ttl=30, show_spinner=False)
def keys_of(run: RunEntry, site: Path | None) -> tuple[key_facts.KeyFacts, ...]:
    """Return what is known about the keys."""
    return key_facts.keys_of(run.folder, site)

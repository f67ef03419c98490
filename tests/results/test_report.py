import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from medfl.errors import AuditError
from medfl.results.audit_store import AuditStore, parse_report, report_bytes
from medfl.results.decision import Decision
from medfl.results.privacy import Release
from medfl.results.report import AuditReport, Curve, PictureDigest
from tests.audit.reports import report


def test_a_report_survives_being_written_and_read() -> None:
    assert parse_report(report_bytes(report())) == report()


def test_the_written_report_follows_the_exported_schema() -> None:
    jsonschema.validate(json.loads(report_bytes(report())), AuditReport.model_json_schema(by_alias=True))


@pytest.mark.parametrize("schema", ["medfl/attack-audit/2", "", None])
def test_an_unknown_schema_is_named_and_not_guessed(schema: str | None) -> None:
    value = json.loads(report_bytes(report())) | {"schema": schema}
    with pytest.raises(AuditError, match="attack-audit/1"):
        parse_report(json.dumps(value).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"schema": "medfl/attack-audit/1"}'])
def test_anything_else_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(AuditError):
        parse_report(content)


@pytest.mark.parametrize("missing", [{"delta": None}, {"adjacency": ""}, {"accountant": "none"}, {"release_model": ""}])
def test_an_epsilon_without_everything_that_gives_it_a_meaning_is_rejected(missing: dict[str, object]) -> None:
    facts = {"site": "a", "what": "features", "subjects": 10, "times": 1, "epsilon": 3.0, "delta": 1e-4}
    facts |= {"adjacency": "replace one", "accountant": "PLD", "release_model": "once"}
    whole = report().model_dump(by_alias=True)
    AuditReport.model_validate(whole | {"releases": (Release.model_validate(facts),)})
    with pytest.raises(ValidationError, match="epsilon must come with"):
        AuditReport.model_validate(whole | {"releases": (Release.model_validate(facts | missing),)})


def test_every_question_has_one_verdict() -> None:
    whole = report().model_dump(by_alias=True)
    with pytest.raises(ValidationError, match="one verdict per question"):
        AuditReport.model_validate(whole | {"verdicts": whole["verdicts"][:2]})


def test_a_part_is_kept_for_the_same_release_policy_and_seed_only(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    store.write_part("key hygiene", "one", {"x": 1})
    assert store.read_part("key hygiene", "one") == {"x": 1}
    assert store.read_part("key hygiene", "two") is None
    (store.folder / "families" / "key-hygiene.json").write_text("{")
    assert store.read_part("key hygiene", "one") is None


def test_a_report_is_found_in_its_run_in_its_folder_and_wherever_it_was_copied(tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    AuditStore(folder).write(folder / "report.json", b"{}")
    assert AuditStore.at(folder / "report.json").folder == AuditStore.at(folder).folder == folder
    assert AuditStore.at(tmp_path).folder == tmp_path / "audit"


@pytest.mark.parametrize("day", ["2026-13-01", "tomorrow", "2026-2-1"])
def test_a_decision_names_real_days(day: str) -> None:
    facts = {"decision": "refuse", "report_sha256": "0" * 64, "officer": "x", "decided": "2026-11-25"}
    assert Decision.model_validate(facts).expires == "not stated"
    with pytest.raises(ValidationError):
        Decision.model_validate(facts | {"expires": day})


def test_a_curve_has_as_many_values_as_places() -> None:
    facts = {"name": "ridge", "kind": "anchors", "x": (4.0, 16.0), "y": (0.6, 0.7), "metric": "auc"}
    assert Curve.model_validate(facts).y_low == ()
    Curve.model_validate(facts | {"y_low": (0.5, 0.6), "y_high": (0.7, 0.8)})
    with pytest.raises(ValidationError, match="same length"):
        Curve.model_validate(facts | {"y": (0.6,)})
    for wrong in ({"y_low": (0.5, 0.6)}, {"y_low": (0.5,), "y_high": (0.7,)}):
        with pytest.raises(ValidationError, match="as long as y"):
            Curve.model_validate(facts | wrong)


def test_a_report_names_pictures_and_holds_none() -> None:
    named = PictureDigest(name="decoder", caption="The best of 60.", sha256="0" * 64)
    given = report().model_copy(update={"pictures": (named,)})
    assert parse_report(report_bytes(given)) == given
    jsonschema.validate(json.loads(report_bytes(given)), AuditReport.model_json_schema(by_alias=True))

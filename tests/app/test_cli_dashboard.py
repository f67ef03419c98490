from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.dashboard import serving
from app.dashboard.settings import DashboardSettings

Medfl = Callable[..., Any]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[DashboardSettings, dict[str, Any]]]:
    """What the command would have served."""
    calls: list[tuple[DashboardSettings, dict[str, Any]]] = []
    monkeypatch.setattr(serving, "serve", lambda settings, **options: calls.append((settings, options)))
    return calls


def test_by_default_it_listens_at_loopback_and_trusts_no_header(
    medfl: Medfl, tmp_path: Path, started: list[tuple[DashboardSettings, dict[str, Any]]]
) -> None:
    assert medfl("dashboard", tmp_path).code == 0
    ((settings, options),) = started
    assert options == {"port": 8501, "address": "127.0.0.1", "host": ""}
    assert (settings.trust_proxy, settings.local_role, settings.site) == (False, None, None)


def test_site_role_and_port_are_handed_on(
    medfl: Medfl, tmp_path: Path, started: list[tuple[DashboardSettings, dict[str, Any]]]
) -> None:
    assert medfl("dashboard", tmp_path, "--site", tmp_path, "--role", "clinician", "--port", "9000").code == 0
    ((settings, options),) = started
    assert (settings.site, settings.local_role, options["port"]) == (tmp_path.resolve(), "clinician", 9000)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--role", "king"),
        ("--role", "clinician", "--trust-proxy"),
        ("--address", "0.0.0.0"),
        ("--address", "192.168.1.2"),
        ("--port", "0"),
    ],
)
def test_unsafe_or_unknown_options_are_a_usage_error(medfl: Medfl, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert medfl("dashboard", tmp_path, *arguments).code == 2


def test_another_address_is_allowed_behind_a_proxy(
    medfl: Medfl, tmp_path: Path, started: list[tuple[DashboardSettings, dict[str, Any]]]
) -> None:
    assert medfl("dashboard", tmp_path, "--address", "0.0.0.0", "--trust-proxy", "--host", "dash.example").code == 0
    assert started[0][1]["address"] == "0.0.0.0"


def test_a_folder_that_is_not_there_is_a_configuration_error(medfl: Medfl, tmp_path: Path) -> None:
    done = medfl("dashboard", tmp_path / "nowhere")
    assert (done.code, str(tmp_path) in done.err) == (3, False)

from pathlib import Path

import pytest

from app.dashboard.roles import Act, visitor_of
from app.dashboard.settings import DashboardSettings

ALL: tuple[Act, ...] = ("see runs", "see cases", "see reconstruction", "flag", "look up")
PROXY = DashboardSettings(runs=Path("/runs"), trust_proxy=True)
FORGED = {"X-Forwarded-User": "eve", "X-Forwarded-Groups": "medfl-clinician"}


def acts(settings: DashboardSettings, headers: dict[str, str]) -> set[str]:
    visitor = visitor_of(settings, headers)
    return {act for act in ALL if visitor.may(act)}


def test_without_a_proxy_everything_can_be_read_and_nothing_written_whatever_headers_say() -> None:
    settings = DashboardSettings(runs=Path("/runs"))
    assert acts(settings, {}) == acts(settings, FORGED) == {"see runs", "see cases", "see reconstruction"}
    assert visitor_of(settings, FORGED).name == ""


@pytest.mark.parametrize(
    ("groups", "allowed"),
    [
        ("medfl-clinician", {"see runs", "see cases", "flag", "look up"}),
        ("medfl-administrator", {"see runs"}),
        ("medfl-privacy-officer", {"see runs", "see reconstruction"}),
        ("staff, medfl-administrator , medfl-clinician", {"see runs", "see cases", "flag", "look up"}),
        ("clinician", set()),
        ("MEDFL-CLINICIAN", set()),
        ("medfl-clinician-not", set()),
        ("", set()),
    ],
)
def test_groups_of_the_proxy_are_roles_and_other_groups_are_none(groups: str, allowed: set[str]) -> None:
    assert acts(PROXY, {"x-forwarded-user": "ada", "x-forwarded-groups": groups}) == allowed


def test_a_group_without_a_name_and_a_name_without_a_group_see_nothing() -> None:
    assert acts(PROXY, {"X-Forwarded-Groups": "medfl-clinician"}) == set()
    assert acts(PROXY, {"X-Forwarded-User": "ada"}) == set()
    assert acts(PROXY, {}) == set()


def test_a_name_is_one_printable_line() -> None:
    visitor = visitor_of(PROXY, {"X-Forwarded-Email": "ada\nroot\u202e@x", "X-Forwarded-Groups": "medfl-clinician"})
    assert visitor.name == "ada root @x"


def test_a_local_role_is_that_of_the_operating_systems_user() -> None:
    visitor = visitor_of(DashboardSettings(runs=Path("/runs"), local_role="clinician"), FORGED)
    assert visitor.name not in ("", "eve")
    assert visitor.may("flag")
    assert not visitor.may("see reconstruction")

"""Who is looking, and what they may do."""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from app.dashboard.escaping import line
from app.dashboard.settings import DashboardSettings, Role

Act = Literal["see runs", "see cases", "see reconstruction", "flag", "look up"]

#: Headers of a proxy that signs people in; it must set or remove all of them, and nobody may get past it.
NAME_HEADERS = ("X-Forwarded-User", "X-Forwarded-Email")
GROUPS_HEADER = "X-Forwarded-Groups"
GROUPS: Mapping[str, Role] = {
    "medfl-clinician": "clinician",
    "medfl-administrator": "administrator",
    "medfl-privacy-officer": "privacy officer",
}

_ACTS: Mapping[Role, frozenset[Act]] = {
    "clinician": frozenset({"see runs", "see cases", "flag", "look up"}),
    "administrator": frozenset({"see runs"}),
    "privacy officer": frozenset({"see runs", "see reconstruction"}),
}
_WITHOUT_ROLES: frozenset[Act] = frozenset({"see runs", "see cases", "see reconstruction"})


@dataclass(frozen=True)
class Visitor:
    """Somebody in front of the dashboard.

    Attributes
    ----------
    name : str
        As the proxy or the operating system says; "" where nobody says it.
    roles : tuple of str
    acts : frozenset of str
    """

    name: str
    roles: tuple[Role, ...]
    acts: frozenset[Act]

    def may(self, act: Act) -> bool:
        """Tell whether something is allowed."""
        return act in self.acts


def visitor_of(settings: DashboardSettings, headers: Mapping[str, str]) -> Visitor:
    """Return who is looking.

    Without a proxy and without a role everything can be read and nothing written. Behind a proxy, whoever has no
    name or no role may see nothing.

    Parameters
    ----------
    settings : DashboardSettings
    headers : mapping of str to str
        Of the browser's connection; read only where a proxy is trusted. Names of headers in any case.
    """
    if settings.trust_proxy:
        given = {name.lower(): value for name, value in headers.items()}
        name = next((given[one.lower()] for one in NAME_HEADERS if given.get(one.lower())), "")
        groups = {one.strip() for one in given.get(GROUPS_HEADER.lower(), "").split(",")}
        roles = tuple(role for group, role in GROUPS.items() if group in groups) if name else ()
        return Visitor(line(name), roles, _acts(roles))
    if settings.local_role is not None:
        return Visitor(line(getpass.getuser()), (settings.local_role,), _acts((settings.local_role,)))
    return Visitor("", (), _WITHOUT_ROLES)


def _acts(roles: tuple[Role, ...]) -> frozenset[Act]:
    return frozenset[Act]().union(*(_ACTS[role] for role in roles))

"""What every page is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

from app.dashboard import kept
from app.dashboard.escaping import markdown
from app.dashboard.reading import Unreadable
from app.dashboard.roles import Visitor
from app.dashboard.runs import RunEntry
from app.dashboard.settings import DashboardSettings
from app.dashboard.wording import Wording

Value = TypeVar("Value")


@dataclass(frozen=True)
class Context:
    """What is looked at, by whom, in which language.

    Attributes
    ----------
    settings : DashboardSettings
    visitor : Visitor
    words : Wording
    run : RunEntry
    """

    settings: DashboardSettings
    visitor: Visitor
    words: Wording
    run: RunEntry

    def flag_name(self) -> str:
        """Return what a run is called beside a flag: its folder and its plan, so that it is found when it moves."""
        plan = kept.plan_of(self.run)
        return f"{self.run.folder.name} {plan[:12]}".strip()

    def read(self, read: Callable[[RunEntry], Value], *, missing: str = "") -> Value | None:
        """Return what stands in the run folder, or say on the page why it cannot be shown.

        Parameters
        ----------
        read : callable
            Of `kept`.
        missing : str
            The text to show where the file is not there; "" for the general one.
        """
        try:
            return read(self.run)
        except Unreadable as error:
            self.say(error, missing)
            return None

    def say(self, error: Unreadable, missing: str = "") -> None:
        """Put on the page why a file cannot be shown."""
        if error.problem == "missing":
            st.info(missing or self.words["file missing"].format(file=markdown(error.file)))
        else:
            st.warning(self.words[f"file {error.problem}"].format(file=markdown(error.file)), icon="⚠️")

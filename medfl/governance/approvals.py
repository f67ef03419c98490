"""What a site's administrator approved: one file per plan, asked anew at every question; no file means no.

`STATE/approvals/HASH.json` is named by the plan's SHA-256 and holds its own: a file that was edited, or that others
than its owner could have written, counts as none. There is no secret in it: whoever may write as its owner can approve.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from medfl.errors import ConfigError, PlanNotApprovedError
from medfl.governance.egress import Egress
from medfl.governance.person import PERSON, PersonName
from medfl.governance.plan import Digest, Plan
from medfl.results.atomic import locked, write_bytes
from medfl.results.canonical import sha256

FOLDER = "approvals"
_HOW = "See 'medfl plan show' and 'medfl plan approve'."
_LONGEST_FILE = 16 * 1024 * 1024


class Approval(BaseModel):
    """One decision.

    Attributes
    ----------
    plan : Plan
    plan_sha256, bundle_sha256 : str
        Of the plan, and of the bundle that Flower will carry for it.
    egress : Egress
        What may leave; made at the site from the plan.
    approved_by : str
        Who decided.
    approved_at : datetime
    expires : date
        Last day; never after the plan's.
    revoked_at : datetime or None
    revoked_by : str
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    schema_: Literal["medfl/site-approval/1"] = Field(default="medfl/site-approval/1", alias="schema")
    plan: Plan
    plan_sha256: Digest
    bundle_sha256: Digest
    egress: Egress
    approved_by: PersonName
    approved_at: AwareDatetime
    expires: date
    revoked_at: AwareDatetime | None = None
    revoked_by: str = ""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.plan.sha256() != self.plan_sha256:
            raise ValueError("plan_sha256 must be the hash of the plan")
        if self.expires > self.plan.expires:
            raise ValueError("an approval must not outlast its plan")
        return self

    def sha256(self) -> str:
        """Return the SHA-256 of the whole decision; it stands in the file and in the audit log."""
        return sha256(self.model_dump(mode="json", by_alias=True))

    def holds(self, today: date) -> bool:
        """Tell whether the approval holds today."""
        return self.revoked_at is None and today <= self.expires

    def check_valid(self, today: date) -> None:
        """Return if the approval holds today.

        Raises
        ------
        PlanNotApprovedError
            With reason "revoked" or "expired".
        """
        if self.revoked_at is not None:
            raise PlanNotApprovedError(
                "revoked",
                f"Plan '{self.plan.name}' must be approved; its approval was revoked on {self.revoked_at:%Y-%m-%d}. "
                "Approve it again if that is wanted.",
            )
        if today > self.expires:
            raise PlanNotApprovedError(
                "expired",
                f"Plan '{self.plan.name}' must be approved for today; its approval ended on {self.expires}. "
                "Approve it again, or ask for a plan with a later end.",
            )


class _Stored(BaseModel):
    """What stands in a file: a decision, and its hash against hand-made changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    approval: Approval
    sha256: Digest

    @model_validator(mode="after")
    def _is_as_written(self) -> Self:
        if self.approval.sha256() != self.sha256:
            raise ValueError("sha256 must be the hash of the approval")
        return self


class Approvals:
    """A site's decisions.

    Parameters
    ----------
    state : Path
        The site's state folder; it must exist. Decisions are in its folder ``approvals``.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER

    def approve(
        self,
        plan: Plan,
        *,
        bundle_sha256: str,
        egress: Egress,
        by: str,
        now: datetime,
        expires: date | None = None,
    ) -> Approval:
        """Approve a plan; done again, it replaces the decision before.

        Parameters
        ----------
        plan : Plan
        bundle_sha256 : str
            Computed at the site.
        egress : Egress
            Derived at the site.
        by : str
            Who decides.
        now : datetime
            With a time zone.
        expires : date or None
            An end before the plan's; None takes the plan's.

        Raises
        ------
        PlanNotApprovedError
            If the plan has expired.
        ConfigError
            If a value does not fit.
        """
        ends = plan.expires if expires is None else expires
        if ends > plan.expires:
            raise ConfigError(f"An approval must not outlast its plan: {plan.expires} at the latest, found {ends}.")
        if ends < now.date():
            raise PlanNotApprovedError(
                "expired", f"A plan must be approved before its end; this one ended on {ends}. Ask for a new plan."
            )
        try:
            approval = Approval(
                plan=plan,
                plan_sha256=plan.sha256(),
                bundle_sha256=bundle_sha256,
                egress=egress,
                approved_by=by,
                approved_at=now.astimezone(UTC),
                expires=ends,
            )
        except ValidationError as error:
            raise ConfigError(f"An approval needs a name and a bundle's hash: {_places(error)}.") from error
        self._write(approval)
        return approval

    def revoke(self, plan_sha256: str, by: str, now: datetime) -> Approval:
        """Withdraw an approval; from the next message on nothing is done for the plan.

        Raises
        ------
        PlanNotApprovedError
            If there is no approval of this plan, or it was revoked before.
        ConfigError
            If nobody is named.
        """
        if re.fullmatch(PERSON, by.strip()) is None:
            raise ConfigError("A revocation needs a name: letters, digits, blanks and .,'@-, at most 64.")
        approval = self._read(plan_sha256)
        if approval.revoked_at is not None:
            raise PlanNotApprovedError(
                "revoked", f"Plan '{approval.plan.name}' must be approved; it is revoked already."
            )
        revoked = approval.model_copy(update={"revoked_at": now.astimezone(UTC), "revoked_by": by.strip()})
        self._write(revoked)
        return revoked

    def of_plan(self, plan_sha256: str, today: date) -> Approval:
        """Return the valid approval of a plan.

        Raises
        ------
        PlanNotApprovedError
            With reason "not_approved", "revoked", "expired" or "changed".
        """
        approval = self._read(plan_sha256)
        approval.check_valid(today)
        return approval

    def of_bundle(self, bundle_sha256: str, today: date) -> Approval:
        """Return the valid approval of the plan that a bundle carries; see `of_plan`.

        Parameters
        ----------
        bundle_sha256 : str
            Of the bytes that were received.
        today : date
        """
        found = [approval for approval in self._sound() if approval.bundle_sha256 == bundle_sha256]
        if not found:
            raise PlanNotApprovedError(
                "not_approved", f"A bundle must carry an approved plan; nobody approved this one. {_HOW}"
            )
        for approval in found:
            if approval.holds(today):
                return approval
        found[0].check_valid(today)
        return found[0]

    def all(self) -> tuple[Approval, ...]:
        """Return every readable decision, also revoked and expired ones, the latest first.

        Files that are not as they were written are left out; `of_plan` names them as "changed".
        """
        return tuple(sorted(self._sound(), key=lambda approval: approval.approved_at, reverse=True))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _sound(self) -> Iterator[Approval]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield self._read(path.stem)
            except PlanNotApprovedError:
                continue

    def _write(self, approval: Approval) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        stored = {"approval": approval.model_dump(mode="json", by_alias=True), "sha256": approval.sha256()}
        text = json.dumps(stored, indent=1)
        with locked(self._folder):
            write_bytes(self._folder / f"{approval.plan_sha256}.json", f"{text}\n".encode())

    def _read(self, plan_sha256: str) -> Approval:
        path = self._folder / f"{plan_sha256}.json"
        if len(plan_sha256) != 64 or not plan_sha256.isalnum() or not path.is_file():
            raise PlanNotApprovedError("not_approved", f"The plan must be approved at this site; it is not. {_HOW}")
        try:
            approval = _Stored.model_validate_json(_private_bytes(path)).approval
        except (OSError, ValueError) as error:
            raise _changed() from error
        if approval.plan_sha256 != plan_sha256:
            raise _changed()
        return approval


def _private_bytes(path: Path) -> bytes:
    """Read a file that nobody but its owner can have written."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or facts.st_uid not in (0, os.geteuid()):
            raise ValueError("others can write the file")
        return file.read(_LONGEST_FILE)


def _changed() -> PlanNotApprovedError:
    return PlanNotApprovedError(
        "changed",
        "An approval must be as it was written, by its owner alone (mode 0600); this one is not. "
        "Approve the plan again.",
    )


def _places(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())

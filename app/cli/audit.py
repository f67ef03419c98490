"""`medfl audit`: attack a run, check its report, decide about it; `medfl gate`: whether it may go out."""

import json
import os
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import click
import typer
from typer.core import TyperGroup

from app.cli.exit_codes import FAILED

if TYPE_CHECKING:
    from medfl.audit.gate import SignedBy
    from medfl.audit.signature import SigningKey
    from medfl.results.attack import Family
    from medfl.results.report import AuditReport


class _RunByDefault(TyperGroup):
    """`medfl audit RUN` is `medfl audit run RUN`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


audit_app = typer.Typer(
    cls=_RunByDefault, help="Attack what a run released ('medfl audit RUN'); check its report.", no_args_is_help=True
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="YAML file with margins; default: medfl's own.")]


@audit_app.command("run")
def run_command(
    run: Run,
    attacks: Annotated[str, typer.Option(help="Comma-separated families; default all.")] = "",
    budget: Annotated[Literal["quick", "standard", "full"], typer.Option(help="How hard to try.")] = "standard",
    policy: PolicyFile = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the division of subjects and of every attack.")] = 0,
    auditor: Annotated[str, typer.Option(help="Who audits; goes into the report.")] = "not stated",
    recipient: Annotated[str, typer.Option(help="Who gets the release.")] = "not stated",
    key_holder: Annotated[str, typer.Option(help="Who holds the key of the transform.")] = "not stated",
    key: Annotated[
        Path | None, typer.Option(help="Key that signs the report; default ~/.config/medfl/audit.key, made once.")
    ] = None,
    with_pictures: Annotated[
        bool, typer.Option("--with-pictures", help="Show the worst reconstruction; such a page stays at the site.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Attack what a run released, with controls, and write a signed report into RUN/audit."""
    from app.cli.display import LiveDisplay
    from app.cli.display_audits import print_verdicts
    from medfl.governance.policy import read_policy
    from pipelines.audit_files import kept_pictures, write_report
    from pipelines.audit_run import FAMILIES, WantedAudit, audit_run

    began = time.monotonic()
    wanted = WantedAudit(
        families=cast("tuple[Family, ...]", _listed(attacks)) or FAMILIES,
        budget=budget,
        seed=seed,
        auditor=auditor,
        recipient=recipient,
        key_holder=key_holder,
        command="medfl audit RUN " + shlex.join(_said(budget, seed, attacks)),
    )
    signing = _tool_key(key)

    def say(line: str) -> None:
        typer.echo(f"{time.monotonic() - began:5.0f} s  {line}", err=True)

    with LiveDisplay(quiet=True) as display:
        report = audit_run(run, read_policy(policy), wanted, display, say)
    written = write_report(run, report, signing, pictures=kept_pictures(run, report) if with_pictures else ())
    if as_json:
        typer.echo(json.dumps(_summary(report) | {"files": [str(path) for path in written.files]}))
        return
    print_verdicts(report)
    for sentence in written.missing:
        typer.echo(f"not rendered: {sentence}", err=True)
    typer.echo(f"\nReport: {run / 'audit'}")


@audit_app.command("verify")
def verify_command(
    place: Annotated[Path, typer.Argument(metavar="RUN|report.json", help="Run folder, or the report in it.")],
    as_json: Json = False,
) -> None:
    """Check the signatures of a report and of the decision about it; says which field was changed."""
    from medfl.audit.signature import fingerprint

    signed = _signed(place)
    facts = {
        "valid": True,
        "sha256": signed.sha256,
        "tool_key": signed.tool,
        "tool_fingerprint": fingerprint(signed.tool),
        "decision": None if signed.decision is None else signed.decision.decision,
        "officer_fingerprint": fingerprint(signed.officer) if signed.officer else None,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"report.json is what was signed by {facts['tool_fingerprint']}.")
    typer.echo("Compare that fingerprint with the one you were told; nothing in this folder says whose it is.")
    if signed.decision is not None:
        typer.echo(f"decision.json ({signed.decision.decision}) is signed by {facts['officer_fingerprint']}.")


@audit_app.command("decide")
def decide_command(
    run: Run,
    decision: Annotated[Literal["release", "refuse"], typer.Argument(help="What you decide.")],
    key: Annotated[Path, typer.Option(help="Your own Ed25519 key (made with: ssh-keygen -t ed25519).")],
    officer: Annotated[str, typer.Option(help="Your name or role.")],
    recipient: Annotated[str, typer.Option(help="Who gets the release.")] = "not stated",
    means: Annotated[str, typer.Option(help="What the recipient could use to find somebody.")] = "not stated",
    legal_basis: Annotated[str, typer.Option(help="For example 'Art. 9(2)(j) GDPR'.")] = "not stated",
    dpia: Annotated[str, typer.Option(help="Reference of the impact assessment.")] = "not stated",
    retention: Annotated[str, typer.Option(help="How long it is kept.")] = "not stated",
    expires: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day (UTC).")] = None,
    note: Annotated[str, typer.Option(help="Anything else.")] = "",
) -> None:
    """Sign a decision about the report you have read, with your own key."""
    from medfl.audit.signature import SigningKey
    from medfl.results.decision import Decision
    from pipelines.audit_files import write_decision

    signed = _signed(run)
    made = Decision(
        decision=decision,
        report_sha256=signed.sha256,
        officer=officer,
        decided=f"{datetime.now(UTC):%Y-%m-%d}",
        recipient=recipient,
        means=means,
        legal_basis=legal_basis,
        dpia_reference=dpia,
        retention=retention,
        expires="not stated" if expires is None else f"{expires:%Y-%m-%d}",
        note=note,
    )
    write_decision(run, made, SigningKey.load(key))
    typer.echo(f"Signed: {decision}. It holds for this report alone ({signed.sha256[:16]}...).")


@audit_app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of report.json."""
    from medfl.results.report import AuditReport

    schema = AuditReport.model_json_schema(by_alias=True)
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=2))


def gate(
    run: Run,
    policy: Annotated[Path, typer.Option("--policy", help="YAML file: margins, allowed verdicts, officers' keys.")],
    as_json: Json = False,
) -> None:
    """Exit 0 if the policy lets the release out, 1 if not, with every reason."""
    from medfl.audit.gate import objections
    from medfl.governance.policy import read_policy

    found = objections(_signed(run), read_policy(policy), datetime.now(UTC).date())
    if as_json:
        typer.echo(json.dumps({"open": not found, "reasons": list(found)}))
    else:
        typer.echo("\n".join(f"- {reason}" for reason in found) or "The policy lets this release out.")
    if found:
        raise typer.Exit(FAILED)


def _signed(place: Path) -> "SignedBy":
    from pipelines.audit_files import read_signed

    return read_signed(place)


def _tool_key(path: Path | None) -> "SigningKey":
    """Return this installation's key; the default one is made on first use."""
    from medfl.audit.signature import SigningKey

    if path is not None:
        return SigningKey.load(path)
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "medfl"
    usual = folder / "audit.key"
    if not usual.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = SigningKey.create(usual, "medfl audit")
        typer.echo(f"made a key that signs reports: {usual}; give {usual}.pub to who checks them", err=True)
        return made
    return SigningKey.load(usual)


def _summary(report: "AuditReport") -> dict[str, object]:
    return {"verdicts": {verdict.question: verdict.status for verdict in report.verdicts}}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _said(budget: str, seed: int, attacks: str) -> list[str]:
    return ["--budget", budget, "--seed", str(seed), *(["--attacks", attacks] if attacks else [])]

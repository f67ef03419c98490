"""`medfl log`: what a site did and let out, and whether its audit log is as it was written."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.exit_codes import FAILED

if TYPE_CHECKING:
    from medfl.governance.audit_entry import Entry
    from medfl.governance.ledger_chain import Head

log_app = typer.Typer(help="Show and check a site's audit log.", no_args_is_help=True)

State = Annotated[Path, typer.Argument(metavar="STATE", help="The site's folder, or its audit.jsonl.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@log_app.command("show")
def show_command(
    state: State,
    last: Annotated[int, typer.Option(min=0, help="Only so many entries from the end; 0 shows all.")] = 20,
    plan: Annotated[str, typer.Option(help="Only of the plan whose hash begins so.")] = "",
    as_json: Json = False,
) -> None:
    """Show entries, oldest first, and how much left in all."""
    from medfl.governance.audit_log import AuditLog

    log = AuditLog(_file(state))
    entries = [entry for entry in log.entries() if entry.plan_sha256.startswith(plan)]
    shown = entries[-last:] if last else entries
    sent = sum(entry.bytes_out for entry in entries)
    if as_json:
        facts = {"entries": [entry.model_dump() for entry in shown], "all": len(entries), "bytes_out": sent}
        typer.echo(json.dumps(facts | {"head": str(log.head())}))
        return
    for entry in shown:
        typer.echo(_line(entry))
    typer.echo(f"{len(shown)} of {len(entries)} entries; {sent:,} bytes of arrays left in all.\nhead {log.head()}")


@log_app.command("verify")
def verify_command(
    state: State,
    head: Annotated[str, typer.Option(help="SEQUENCE:HASH noted earlier; the log must go through it.")] = "",
    as_json: Json = False,
) -> None:
    """Check every line and its hash; names the first one that is not as it was written."""
    from medfl.governance.audit_log import AuditLog

    log = AuditLog(_file(state))
    broken = log.verify(_head(head) if head else None)
    if as_json:
        fault = None if broken is None else {"line": broken.number, "reason": broken.reason}
        typer.echo(json.dumps({"valid": broken is None, "broken": fault, "head": str(log.head())}))
    elif broken is None:
        typer.echo(f"All {len(log.entries())} entries are as they were written.\nhead {log.head()}")
        typer.echo("Keep a note of this head outside this machine: without it, removed last lines cannot be seen.")
    else:
        typer.echo(
            f"error: Every line of an audit log must be as it was written; line {broken.number} is not: "
            f"{broken.reason}. Keep the file as it is and compare it with a backup.",
            err=True,
        )
    if broken is not None:
        raise typer.Exit(FAILED)


def _file(state: Path) -> Path:
    from medfl.errors import ConfigError

    path = state / "audit.jsonl" if state.is_dir() else state
    if not path.is_file():
        raise ConfigError(
            "STATE must be a site's folder with audit.jsonl; there is none. It is made by the first entry."
        )
    return path


def _line(entry: "Entry") -> str:
    words = [entry.when, entry.operation, entry.verdict, entry.reason, f"by {entry.who}"]
    if entry.plan_sha256:
        words.append(f"plan {entry.plan_sha256[:12]}")
    if entry.run_id:
        words.append(f"run {entry.run_id}")
    if entry.round:
        words.append(f"round {entry.round}")
    if entry.bytes_out:
        words.append(f"{entry.bytes_out:,} bytes")
    if entry.epsilon is not None:
        words.append(f"epsilon {entry.epsilon}")
    return "  ".join(word for word in words if word)


def _head(text: str) -> "Head":
    from medfl.governance.ledger_chain import Head

    sequence, _, digest = text.partition(":")
    if not sequence.isdecimal() or len(digest) != 64:
        raise typer.BadParameter("a head is SEQUENCE:HASH, as 'medfl log show' prints it.")
    return Head(int(sequence), digest)

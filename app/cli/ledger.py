"""`medfl ledger`: what a site has spent of its patients' privacy, and whether its books are sound."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

from medfl.errors import ConfigError

if TYPE_CHECKING:
    from medfl.governance.ledger_books import Spent
    from medfl.governance.ledger_chain import Head
    from medfl.governance.ledger_events import Account, Budget

ledger_app = typer.Typer(help="Show, check and restore a site's privacy ledger.", no_args_is_help=True)

Place = Annotated[Path, typer.Argument(metavar="LEDGER", help="The site's ledger file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Note = Annotated[str, typer.Option(help="Who decided it and why; never a patient's name.")]
Adjacency = Literal["add-remove", "replace"]


@ledger_app.command("create")
def create_command(
    path: Annotated[Path, typer.Argument(metavar="LEDGER", help="New file on a local disk; once for each site.")],
    as_json: Json = False,
) -> None:
    """Make the ledger of a site."""
    from medfl.governance.ledger import Ledger

    with Ledger.create(path) as ledger:
        _say_head(ledger.head, as_json, f"Made {path} and its witness.")


@ledger_app.command("budget")
def budget_command(
    path: Place,
    data_set: Annotated[str, typer.Option(help="Lasting name of the patients' data, the same in every run.")],
    purpose: Annotated[str, typer.Option(help="What the releases are for.")],
    delta: Annotated[float, typer.Option(help="Well below 1 / (10 * subjects).")],
    epsilon: Annotated[float | None, typer.Option(help="For each subject, over all runs; none: no limit.")] = None,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="Only keep the books.")] = False,
    adjacency: Annotated[Adjacency, typer.Option(help="What neighboring data sets are.")] = "replace",
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Open an account, or change its budget; allowing more needs a note."""
    from medfl.governance.ledger import Ledger
    from medfl.governance.ledger_events import Account, Budget

    if (epsilon is None) != no_limit:
        raise typer.BadParameter("give either --epsilon or --no-limit.")
    account, budget = Account(data_set, purpose), Budget(epsilon, delta, _adjacency(adjacency))
    with Ledger.open(path) as ledger:
        if account in ledger.accounts():
            ledger.change_budget(account, budget, note=note)
        else:
            ledger.open_account(account, budget, note=note)
        _say_head(ledger.head, as_json, f"The budget of {account} is {budget}.")


@ledger_app.command("show")
def show_command(path: Place, as_json: Json = False) -> None:
    """Show what is allowed and spent; with --json also a whole copy that 'restore' takes."""
    from medfl.governance.ledger import Ledger
    from medfl.governance.ledger_restore import exported

    with Ledger.open(path) as ledger:
        accounts = ledger.accounts()
        spent = {account: ledger.spent(account) for account in accounts}
        pending = {account: ledger.pending(account) for account in accounts}
        totals = {data_set: ledger.total(data_set) for data_set in sorted({one.data_set for one in accounts})}
        head, copy = ledger.head, exported(ledger.events()) if as_json else None
    if as_json:
        facts = {
            "head": str(head),
            "accounts": [
                {
                    "data_set": account.data_set,
                    "purpose": account.purpose,
                    "budget": _number(budget.limit),
                    **_spent(spent[account]),
                    "pending": pending[account],
                }
                for account, budget in accounts.items()
            ],
            "data_sets": [{"data_set": data_set, **_spent(total)} for data_set, total in totals.items()],
            "copy": copy,
        }
        typer.echo(json.dumps(facts, allow_nan=False))
        return
    for account, budget in accounts.items():
        typer.echo(f"{account}\n  budget: {budget}\n  spent:  {_words(spent[account])}")
        if pending[account]:
            typer.echo(f"  {pending[account]} reserved and not committed; they count as spent")
    for data_set, total in totals.items():
        typer.echo(f"'{data_set}', all purposes together: {_words(total)}")
    typer.echo(f"head {head}")


@ledger_app.command("verify")
def verify_command(
    path: Place,
    head: Annotated[str, typer.Option(help="SEQUENCE:HASH noted earlier; the ledger must go through it.")] = "",
    as_json: Json = False,
) -> None:
    """Check every row, its hash and the witness; names the first row that is not as it was written."""
    from medfl.governance.ledger import Ledger

    with Ledger.open(path) as ledger:
        found = ledger.verify(_head(head) if head else None)
    _say_head(found, as_json, f"All {found.sequence} rows are as they were written.")


@ledger_app.command("restore")
def restore_command(
    path: Place,
    note: Annotated[str, typer.Option(help="Who restores it and why; never a patient's name.")],
    copy: Annotated[Path | None, typer.Option(help="What 'show --json' printed.")] = None,
    accounts: Annotated[
        Path | None,
        typer.Option(help="YAML list of every account there was: data_set, purpose, epsilon, delta, adjacency."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replace a lost or damaged ledger: from an exact copy, or with every account charged in full."""
    from medfl.governance.ledger_restore import restore

    charged = {} if accounts is None else _accounts(accounts)
    with restore(path, note=note, copy=None if copy is None else _content(copy), charged=charged) as ledger:
        exact = getattr(ledger.events()[-1].content, "exact", False)
        said = "Restored; nothing is lost." if exact else "Restored; every account is charged in full."
        _say_head(ledger.head, as_json, said)


def _accounts(path: Path) -> "dict[Account, Budget]":
    from medfl.governance.ledger_events import Account, Budget

    fields = {"data_set", "purpose", "epsilon", "delta", "adjacency"}
    try:
        found = yaml.safe_load(_content(path))
        if not isinstance(found, list) or not all(isinstance(one, dict) and set(one) == fields for one in found):
            raise ValueError
        read = [
            (
                Account(str(one["data_set"]), str(one["purpose"])),
                Budget(
                    None if one["epsilon"] is None else float(one["epsilon"]),
                    float(one["delta"]),
                    _adjacency(one["adjacency"]),
                ),
            )
            for one in found
        ]
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:
        names = ", ".join(sorted(fields))
        raise ConfigError(f"{path.name} must be a YAML list of accounts, each with exactly {names}.") from error
    if len(dict(read)) != len(read):
        raise ConfigError(f"{path.name} must name every account once, found one twice.")
    return dict(read)


def _adjacency(short: str) -> str:
    from medfl.privacy.composition import ADD_OR_REMOVE, REPLACE

    names = {"add-remove": ADD_OR_REMOVE, "replace": REPLACE}
    if short not in names:
        raise ConfigError(f"adjacency must be add-remove or replace, found {short!r}.")
    return names[short]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The file {path.name} must be there and readable; it is not.") from error


def _head(text: str) -> "Head":
    from medfl.governance.ledger_chain import Head

    sequence, _, digest = text.partition(":")
    if not sequence.isdecimal() or len(digest) != 64:
        raise typer.BadParameter("a head is SEQUENCE:HASH, as 'medfl ledger show' prints it.")
    return Head(int(sequence), digest)


def _say_head(head: "Head", as_json: bool, said: str) -> None:
    if as_json:
        typer.echo(json.dumps({"head": str(head)}))
        return
    typer.echo(said)
    typer.echo(f"head {head}\nKeep a note of this head outside this machine; 'medfl ledger verify --head' compares it.")


def _spent(spent: "Spent") -> dict[str, Any]:
    return {**vars(spent), "epsilon": _number(spent.epsilon)}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "Infinity"


def _words(spent: "Spent") -> str:
    return f"epsilon {spent.epsilon:.4g} at delta {spent.delta:g} ({spent.adjacency}), {spent.events} entries"

"""Where a site's releases are booked before they are computed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medfl.config.settings import Config
from medfl.config.training_privacy import DpSgd, DpUpdates
from medfl.errors import ConfigError
from medfl.governance.ledger import Ledger
from medfl.governance.ledger_events import Account, Budget, SubjectSet
from medfl.privacy.composition import REPLACE, DpEvent
from medfl.privacy.sampled_gaussian import Adjacency
from medfl.results.privacy import Balance
from medfl.results.store import RunStore, file_stem

EventOf = Callable[[Adjacency], DpEvent]
_MOST_LETTERS = 120
_ADJACENCY = {"add-remove": Adjacency.ADD_OR_REMOVE.value, "replace": Adjacency.REPLACE.value}


@dataclass(frozen=True)
class SiteBooks:
    """One run's access to a site's ledger. It is opened anew for every entry: others use it as well.

    Attributes
    ----------
    path : Path
        The ledger's file.
    account : Account
    run : str
        Id of the run, without anything that names a patient.
    """

    path: Path
    account: Account
    run: str

    @contextmanager
    def spending(self, round: int, release: str, event_of: EventOf, subjects: Iterable[str]) -> Iterator[None]:
        """Reserve before the block, commit after it; a block that fails stays spent.

        Parameters
        ----------
        round : int
            0 for what happens before the first one.
        release : str
            What is released.
        event_of : callable
            Adjacency of the account -> what the release counts for in it.
        subjects : iterable of str
            Pseudonyms of those it is about; only a digest is written.

        Raises
        ------
        LedgerExhaustedError
            If the budget does not hold it; the block is not entered.
        LedgerError
            If the ledger cannot be trusted or reached.
        """
        adjacency = Adjacency(self.budget().adjacency)
        with Ledger.open(self.path) as ledger:
            reservation = ledger.reserve(
                self.account,
                run=self.run,
                round=round,
                release=release,
                event=event_of(adjacency),
                subjects=SubjectSet.of(subjects),
            )
            yield
            ledger.commit(reservation)

    def balance(self, site: str) -> Balance:
        """Return what is booked on the account now."""
        budget = self.budget()
        with Ledger.open(self.path) as ledger:
            spent, head = ledger.spent(self.account), ledger.head
        return Balance(
            site=site,
            data_set=self.account.data_set,
            purpose=self.account.purpose,
            spent=spent.epsilon,
            limit=budget.limit,
            delta=spent.delta,
            adjacency=spent.adjacency,
            entries=spent.events,
            head=f"{head.sequence}:{head.digest}",
        )

    def budget(self) -> Budget:
        """Return what may be spent.

        Raises
        ------
        ConfigError
            If the ledger has no such account.
        """
        with Ledger.open(self.path) as ledger:
            accounts = ledger.accounts()
        if self.account not in accounts:
            raise ConfigError(
                f"The site's ledger must have the account {self.account}; it has {len(accounts)} others. Open it with "
                "'medfl ledger budget', or name another in 'ledger'."
            )
        return accounts[self.account]


def simulated_books(config: Config, site: str, store: RunStore, ledgers: Path | None) -> SiteBooks | None:
    """Return a simulated site's books: in a folder of ledgers, `SITE.db`, or in the run folder.

    A run that was given no ledgers keeps its own where its settings name an epsilon, with a budget of just that.

    Parameters
    ----------
    config : Config
    site : str
    store : RunStore
    ledgers : Path or None
    """
    account = Account(config.ledger.data_set or config.name, config.ledger.purpose)
    run = f"{config.name} {store.folder.resolve().name}"[:_MOST_LETTERS]
    name = f"{file_stem(site)}.db"
    if ledgers is not None:
        return SiteBooks(ledgers / name, account, run)
    if not isinstance(config.privacy, DpSgd | DpUpdates):
        return None
    books = SiteBooks(store.ledgers / name, account, run)
    _open_own(books, config.privacy)
    return books


def _open_own(books: SiteBooks, settings: DpSgd | DpUpdates) -> None:
    adjacency = _ADJACENCY[settings.adjacency] if isinstance(settings, DpSgd) else REPLACE
    if not books.path.exists():
        books.path.parent.mkdir(parents=True, exist_ok=True)
        Ledger.create(books.path).close()
    with Ledger.open(books.path) as ledger:
        ledger.open_account(books.account, Budget(settings.epsilon, settings.delta, adjacency))

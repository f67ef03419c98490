"""The site's ledger under kills, under many processes at once, and how long an entry takes.

Run: python benchmarks/ledger.py --kills 1000 --processes 8 --out ledger.json
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from medfl.governance.ledger import Ledger
from medfl.governance.ledger_clock import stamp, utc_now
from medfl.governance.ledger_errors import LedgerExhaustedError
from medfl.governance.ledger_events import (
    Account,
    Budget,
    Committed,
    Content,
    Created,
    Opened,
    Reserved,
    SubjectSet,
    written,
)
from medfl.governance.ledger_file import build, install, write_witness
from medfl.privacy.composition import (
    REPLACE,
    DpEvent,
    Gaussian,
    NonPrivate,
    PoissonSampledGaussian,
    SelfComposed,
    described,
)

BOOKS = Account("benchmark", "books without a limit")
TRAINING = Account("benchmark", "training")
SUBJECTS = SubjectSet.of(f"subject {number}" for number in range(100))
ROUND = SelfComposed(PoissonSampledGaussian(0.01, 1.0), 20)
_LONGEST_WAIT = 0.15  # seconds between an open ledger and the kill
_PATIENCE = 120.0


@dataclass(frozen=True)
class Kills:
    """What was left after writers were killed.

    Attributes
    ----------
    kills, acknowledged, unacknowledged : int
        Writers killed, entries they were told of, and entries that are there although the kill came before the word.
    lost, doubled : int
        Acknowledged entries that are not there, and entries that are there twice. Both must be 0.
    rows : int
        Of the whole chain, every one verified.
    """

    kills: int
    acknowledged: int
    unacknowledged: int
    lost: int
    doubled: int
    rows: int


@dataclass(frozen=True)
class Spending:
    """What many processes spent at once.

    Attributes
    ----------
    budget, spent, one_more : float
        Epsilon; `one_more` is what a further release would have made it.
    booked, acknowledged : int
    """

    budget: float
    spent: float
    one_more: float
    booked: int
    acknowledged: int


def survive(folder: Path, kills: int, seed: int) -> Kills:
    """Kill a writing process again and again at a random moment; see what the ledger says afterwards."""
    chance, path = random.Random(seed), folder / "ledger.db"
    with Ledger.create(path) as ledger:
        ledger.open_account(BOOKS, Budget(None, 1e-5, REPLACE))
    context, told = _processes(), Counter[tuple[str, str, int]]()
    for kill in range(kills):
        here, there = context.Pipe(duplex=False)
        writer = context.Process(target=write_on, args=(path, f"run-{kill}", there))
        writer.start()
        there.close()
        if not here.poll(_PATIENCE):
            raise TimeoutError("a writer must open the ledger within two minutes.")
        time.sleep(chance.uniform(0, _LONGEST_WAIT))
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        told.update(_received(here))
    with Ledger.open(path) as ledger:
        rows = ledger.verify().sequence
        entries = ledger.events()
    runs = {entry.row.sequence: entry.content for entry in entries}
    found = Counter[tuple[str, str, int]]()
    for content in runs.values():
        if isinstance(content, Reserved):
            found["reserved", content.run, content.round] += 1
        elif isinstance(content, Committed):
            made = runs[content.reservation]
            if isinstance(made, Reserved):
                found["committed", made.run, made.round] += 1
    return Kills(
        kills,
        told.total(),
        (found - told).total(),
        (told - found).total(),
        sum(times - 1 for times in found.values()),
        rows,
    )


def write_on(path: Path, run: str, out: Connection) -> None:
    """Reserve and commit until killed; say of each entry that it is there."""
    with Ledger.open(path) as ledger:
        out.send(("open", run, 0))
        round_ = 0
        while True:
            made = ledger.reserve(
                BOOKS, run=run, round=round_, release="features", event=NonPrivate(), subjects=SUBJECTS
            )
            out.send(("reserved", run, round_))
            ledger.commit(made)
            out.send(("committed", run, round_))
            round_ += 1


def spend_at_once(folder: Path, processes: int, budget: float, event: DpEvent) -> Spending:
    """Let processes spend one budget at once until each is refused."""
    path = folder / "shared.db"
    with Ledger.create(path) as ledger:
        ledger.open_account(TRAINING, Budget(budget, 1e-5, REPLACE))
    context = _processes()
    start = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    spenders = [
        context.Process(target=spend, args=(path, f"run-{number}", event, start, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for spender, (_, there) in zip(spenders, pipes, strict=True):
        spender.start()
        there.close()
    told = [message for here, _ in pipes for message in _received(here)]
    for spender in spenders:
        spender.join()
    with Ledger.open(path) as ledger:
        ledger.verify()
        booked = sum(isinstance(entry.content, Reserved) for entry in ledger.events())
        spent = ledger.spent(TRAINING).epsilon
        ledger.change_budget(TRAINING, Budget(None, 1e-5, REPLACE), note="to see what one more would cost")
        ledger.reserve(TRAINING, run="after", round=0, release="sum", event=event, subjects=SUBJECTS)
        return Spending(budget, spent, ledger.spent(TRAINING).epsilon, booked, len(told))


def spend(path: Path, run: str, event: DpEvent, start: "multiprocessing.synchronize.Barrier", out: Connection) -> None:
    """Reserve and commit until the budget is used up."""
    with Ledger.open(path) as ledger:
        start.wait()
        round_ = 0
        while True:
            try:
                made = ledger.reserve(TRAINING, run=run, round=round_, release="sum", event=event, subjects=SUBJECTS)
            except LedgerExhaustedError:
                return
            out.send(("reserved", run, round_))
            ledger.commit(made)
            round_ += 1


def timed(folder: Path, entries: int, repeats: int) -> dict[str, float]:
    """Return seconds to open a ledger of so many reserved and committed releases, and to add one."""
    path = folder / f"{entries}.db"
    part, head = build(path, map(written, _filled(entries)))
    write_witness(path, head)
    install(part, path)
    began = time.perf_counter()
    with Ledger.open(path) as ledger:
        opened = time.perf_counter() - began
        reserving, committing = [], []
        for number in range(repeats + 1):
            began = time.perf_counter()
            made = ledger.reserve(TRAINING, run="timed", round=number, release="sum", event=ROUND, subjects=SUBJECTS)
            reserved = time.perf_counter()
            ledger.commit(made)
            reserving.append(reserved - began)
            committing.append(time.perf_counter() - reserved)
    return {
        "entries": entries,
        "open": opened,
        "first reserve": reserving[0],
        "reserve": statistics.median(reserving[1:]),
        "commit": statistics.median(committing[1:]),
    }


def _filled(entries: int) -> Iterator[Content]:
    now = stamp(utc_now)
    yield Created(recorded=now, identity="benchmark")
    yield Opened(recorded=now, account=TRAINING, budget=Budget(1e3, 1e-5, REPLACE), note="")
    for number in range(entries):
        yield Reserved(
            recorded=now,
            account=TRAINING,
            run="filled",
            round=number,
            release="sum",
            event=described(ROUND),
            subjects=SUBJECTS,
            claim="0" * 64,
        )
        yield Committed(recorded=now, reservation=2 * number + 3)


def _processes() -> ForkServerContext:
    """Return a way to start processes that have the ledger imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["medfl.governance.ledger"])
    return context


def _received(pipe: Connection) -> Iterator[tuple[str, str, int]]:
    """Yield what a process said of its entries; a word that was cut off does not count."""
    while True:
        try:
            message: tuple[str, str, int] = pipe.recv()
        except (EOFError, OSError):
            pipe.close()
            return
        if message[0] != "open":
            yield message


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--entries", type=int, nargs="*", default=[10, 1000, 10_000])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        times = [timed(place, entries, arguments.repeats) for entries in arguments.entries]
        for row in times:
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        found["seconds"] = times
        spending = spend_at_once(place, arguments.processes, 6.0, Gaussian(8.0))
        print(spending, flush=True)
        found["spending"] = asdict(spending)
        kills = survive(place, arguments.kills, arguments.seed)
        print(kills)
        found["kills"] = asdict(kills)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

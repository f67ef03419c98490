"""The signals that end a supervisor, as an event."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ending_event(stop: threading.Event | None) -> Iterator[threading.Event]:
    """Lend an event that SIGTERM, SIGINT and SIGHUP set.

    Parameters
    ----------
    stop : Event or None
        One that is given is used as it is, without signals.
    """
    if stop is not None:
        yield stop
        return
    ending = threading.Event()
    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda _number, _frame: ending.set()) for number in asked}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

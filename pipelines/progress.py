"""What a run tells whoever watches it."""

from medfl.results.history import RoundRecord, SiteRound
from medfl.results.metrics import RunMetrics


class Observer:
    """Watches a run; this one stays silent. Subclasses take what they need."""

    def preparing(self, done: int, total: int) -> None:
        """Hear that `done` of `total` studies are read and prepared."""

    def started(self, sites: tuple[str, ...], rounds: int, done: int) -> None:
        """Hear which sites are there, and that `done` of `rounds` rounds were finished before."""

    def round_started(self, number: int) -> None:
        """Hear that a round begins."""

    def site_replied(self, number: int, reply: SiteRound) -> None:
        """Hear that one site's reply has come and was judged."""

    def round_finished(self, record: RoundRecord) -> None:
        """Hear that a round is over and its checkpoint is written."""

    def finishing(self) -> None:
        """Hear that sites judge the final model."""

    def finished(self, metrics: RunMetrics) -> None:
        """Hear that the run is over."""

    def sharing(self) -> None:
        """Sites protect and release their features."""

"""What a site keeps between the rounds of a plan, as it was after each of them.

A round always starts from what was kept after the rounds before it. Asked for once more, by a hub that was started
again or after a crash of the site, it gives the same as the first time wherever training itself does.
"""

import re
from pathlib import Path

from medfl.results.atomic import write_bytes

_NAME = re.compile(r"after-(\d{6})\.bin")
_KEPT = 3


class KeptMemory:
    """Byte strings of one plan, by round; they never leave the site.

    Parameters
    ----------
    folder : Path
        It is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder

    def before(self, round: int) -> bytes:
        """Return what was kept after the last round before this one; empty before the first."""
        return self._latest(round - 1)

    def after(self, round: int) -> bytes:
        """Return what was kept after this round, or after the last one before it."""
        return self._latest(round)

    def keep(self, round: int, content: bytes) -> None:
        """Keep what is there after a round (0 for what happens before the first); what is older goes."""
        write_bytes(self._folder / f"after-{round:06d}.bin", content)
        for old in sorted(number for number in self._rounds() if number < round)[: -(_KEPT - 1)]:
            (self._folder / f"after-{old:06d}.bin").unlink(missing_ok=True)

    def _latest(self, round: int) -> bytes:
        usable = [number for number in self._rounds() if number <= round]
        return (self._folder / f"after-{max(usable):06d}.bin").read_bytes() if usable else b""

    def _rounds(self) -> list[int]:
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return [int(match.group(1)) for match in found if match]

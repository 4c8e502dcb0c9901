"""The pool's chance, with a note of what it has said. Pure."""

from __future__ import annotations

import random

NO_DRAWS: tuple[float, ...] = ()


class RecordedDraws(random.Random):
    """Draws what another generator draws, and notes it in `log` until somebody takes that.

    Everything that `random.Random` offers comes down to these two methods, so a pool picks just as
    it would without the note.
    """

    def __init__(self, source: random.Random) -> None:
        super().__init__(0)
        self._random, self._getrandbits = source.random, source.getrandbits
        self.log: list[float] = []

    def random(self) -> float:
        drawn = self._random()
        self.log.append(drawn)
        return drawn

    def getrandbits(self, k: int, /) -> int:
        drawn = self._getrandbits(k)
        self.log.append(drawn)
        return drawn

    def taken(self) -> tuple[float, ...]:
        """What has been drawn since the last time."""
        drawn = tuple(self.log)
        self.log.clear()
        return drawn

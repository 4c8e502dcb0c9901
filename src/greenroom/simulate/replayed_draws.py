"""Chance that says again what it has said to a request when it was recorded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from greenroom.actors.strategies import PickContext, RoutingStrategy
from greenroom.actors.strategies.protocol import Candidate


class ReplayedDraws(random.Random):
    """Gives each request the draws that it had, in their order, and new ones behind these.

    So one pick that is another than it was does not make others of all that follow.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._left: list[float] = []

    def about(self, left: list[float]) -> None:
        """What is drawn from now on is for a request that has those draws left, the last first."""
        self._left = left

    def random(self) -> float:
        if self._left and isinstance(self._left[-1], float):
            return self._left.pop()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        left = self._left
        if left:
            drawn = left[-1]
            if isinstance(drawn, int) and drawn < 1 << k:
                left.pop()
                return drawn
        return super().getrandbits(k)


def tells_whose(strategy: RoutingStrategy, about: Callable[[str], object]) -> None:
    """Have a strategy of this package say, before each pick, which request it is for."""
    kind: Any = type(strategy)

    class Told(kind):  # type: ignore[misc]
        def pick(
            self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
        ) -> Any:
            about(context.request_id)
            return super().pick(candidates, context, rng)

    strategy.__class__ = Told

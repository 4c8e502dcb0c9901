"""How a pool comes to rest: time passes, hanging calls are let go, until nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from chaos.faults import Faults
from chaos.findings import Stuck
from chaos.ledger import Ledger
from chaos.stage import Stage
from greenroom import PoolRef

PATIENCE_S = 30.0
"""Real seconds that anything may take which must come: only a failure needs them."""


def patience() -> Iterator[int]:
    """Turns for as long as one may wait for what must come."""
    until = time.monotonic() + PATIENCE_S
    turn = 0
    while time.monotonic() < until:
        yield turn
        turn += 1


class Rest:
    """Waits for one pool."""

    def __init__(self, pool: PoolRef, stage: Stage, ledger: Ledger, faults: Faults) -> None:
        self._pool = pool
        self._stage = stage
        self._ledger = ledger
        self._faults = faults

    def come(self) -> None:
        """Every request over, every call ended, every slot given back, every command answered."""
        self._stage.behave()
        self.everything_ends()
        try:
            self.until(self._at_rest, "the pool comes to rest")
        except Stuck as stuck:
            raise Stuck(f"{stuck}; {self._left()}") from None

    def everything_ends(self) -> None:
        """Every request over, every call ended, every command answered."""
        self.until(self._all_heard, "every request is answered")
        self.until(self._nothing_runs, "every call ends")
        self.until(self._all_is_closed, "every stream is closed")
        self.until(self._faults.all_answered, "every command is answered")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Let time pass and hanging calls go until something has come about.

        Raises:
            Stuck: it has not.
        """
        for _ in patience():
            self._stage.let_go()
            if condition():
                return
            self._stage.clock.advance(0.5)
        raise Stuck(f"{what}: that never came about; {self._ledger.unanswered} asks are open")

    def make_room(self, window: int) -> None:
        """Let time pass, and in the end calls go, until fewer asks are unanswered.

        Raises:
            Stuck: they stay that many.
        """
        fewer = self._ledger.fewer_than(window)
        for turn in patience():
            if self._ledger.wait(fewer, 0.0 if turn == 0 else 0.001):
                return
            self._stage.clock.advance(0.05 if turn < 20 else 0.5)
            self._pool.stats()  # all that the time has brought about is done
            if turn >= 20:
                self._stage.let_go(1)
        raise Stuck(f"no answer came, and {self._ledger.unanswered} asks are open")

    def _all_heard(self) -> bool:
        return self._ledger.wait(self._ledger.all_heard, 0.02)

    def _nothing_runs(self) -> bool:
        return self._stage.wait_until_nothing_runs(0.02)

    def _all_is_closed(self) -> bool:
        return self._stage.wait_until_all_is_closed(0.02)

    def _left(self) -> str:
        """What is not at rest."""
        stats = self._pool.stats()
        members = (
            f"{each.name}: {each.in_flight} in flight, {each.abandoned} abandoned"
            for each in stats.members
            if each.in_flight or each.abandoned
        )
        inner = "at rest" if self._faults.inner.at_rest() else "not at rest"
        open_there = f"{stats.pending} pending, {stats.in_flight} in flight"
        return "; ".join((open_there, *members, f"inner pools {inner}"))

    def _at_rest(self) -> bool:
        stats = self._pool.stats()
        abandoned = any(member.abandoned for member in stats.members)
        idle = stats.pending == stats.in_flight == 0 and not abandoned
        return idle and self._faults.inner.at_rest()

"""Drills: among members that are well, one thing at a time that must do no harm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chaos.entry import End, Entry
from chaos.ledger import Ledger
from chaos.moves import Move
from chaos.rest import patience
from chaos.stage import Stage, Window
from chaos.steps import Send, Way
from greenroom import AllPoolMembersFailedError, CircuitState, PoolRef

GOOD = 8
"""Requests before the poison one, and as many after it."""
THROTTLED = 60
"""Requests of a burst that the members' limits do not allow."""
NEAR_S = 0.05
"""Between what an error says and what is so: time that passed on the way."""


class Drills:
    """Carries them out, on a pool at rest whose members have all been reset."""

    def __init__(
        self, pool: PoolRef, stage: Stage, ledger: Ledger, send: Callable[[Send], Entry]
    ) -> None:
        self._pool = pool
        self._stage = stage
        self._ledger = ledger
        self._send = send

    def poison(self, move: Move) -> Iterator[str]:
        """One request that nobody can answer, among others: they are answered, and when it is over
        every breaker is closed.
        """
        good = [self._send(Send(Way.FUTURE, key=str(n))) for n in range(GOOD)]
        poison = self._send(Send(Way.FUTURE, (move,), key="poison"))
        good += [self._send(Send(Way.FUTURE, key=str(n))) for n in range(GOOD)]
        self._let_all_end()
        for entry in good:
            if entry.end is not End.VALUE:
                yield f"{entry.id} failed for {poison.id} ({move}): {entry.error!r}"
        yield from self._everybody_serves(f"{poison.id} ({move})")

    def throttling(self) -> Iterator[str]:
        """More requests than the members' limits allow, one after the other: nobody is called who
        rests, no breaker opens, and who is refused is told when somebody is back.
        """
        stage = self._stage
        window = stage.window = Window(calls=2)
        names = [member.name for member in self._pool.stats().members]
        try:
            for number in range(THROTTLED):
                stage.clock.advance(0.03)
                entry = self._send(Send(Way.FUTURE, key=str(number)))
                self._let_all_end()
                yield from self._says_when(entry, window, names)
        finally:
            stage.window = None
        for name, times in window.too_early.items():
            yield f"{name} was called {times} times while it rested"
        yield from self._everybody_serves("throttling")

    def _says_when(self, entry: Entry, window: Window, names: list[str]) -> Iterator[str]:
        back_s = window.first_back_s(names, entry.answered_at)
        if not isinstance(entry.error, AllPoolMembersFailedError) or not back_s:
            return
        said_s = entry.error.retry_after_s
        # Whose refusals have taught a pace is given the next one by that, a turn later at most.
        paces = [each.pace_per_s for who in self._pool.stats().members for each in who.limits]
        latest_s = back_s + max((1.0 / each for each in paces if each), default=0.0)
        if said_s is None or not back_s - NEAR_S <= said_s <= latest_s + NEAR_S:
            yield f"{entry.id} was told to wait {said_s} s, somebody is back after {back_s:.3f} s"

    def _everybody_serves(self, what: str) -> Iterator[str]:
        for member in self._pool.stats().members:
            if member.circuit is not CircuitState.CLOSED:
                yield f"{what} has left a breaker that is not closed: {member}"

    def _let_all_end(self) -> None:
        """Until every asker is told, and the pool of the end of every call.

        An answer does not say that: where a request was hedged, it is that of the faster call, and
        the other one may have been refused with a 429 that is still on its way. Nobody can let that
        member rest before it has come, the more so where the strategy is sticky and gives it the
        next request: which would not be one after the other, but two at a time.

        In small steps: what waits for a member to be back is not late by much. While a call is on
        its way no time passes, since no call of a drill needs any: what an agent asks for counts
        from when the pool hears of it.
        """
        for turn in patience():
            heard = self._ledger.wait(self._ledger.all_heard, 0.0 if turn == 0 else 0.002)
            if self._pool.stats().in_flight:
                continue
            if heard:
                return
            if turn:
                self._stage.clock.advance(0.01)

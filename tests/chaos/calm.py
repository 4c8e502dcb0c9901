"""After a storm: every member comes back, and every one of its slots can be used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from chaos.company import CORE
from chaos.entry import Entry
from chaos.faults import Faults
from chaos.ledger import Ledger
from chaos.moves import Move
from chaos.plan import Act
from chaos.rest import PATIENCE_S, patience
from chaos.stage import Stage
from chaos.steps import Send, Way
from greenroom import (
    AddMember,
    CircuitState,
    ForceOpen,
    MemberStats,
    PoolRef,
    PoolStats,
    ResetAll,
)

TRIALS = 20
"""Requests that the pool gets each time an open breaker may try again."""


class Calm:
    """Good traffic and time, nothing else."""

    def __init__(
        self,
        pool: PoolRef,
        stage: Stage,
        ledger: Ledger,
        faults: Faults,
        send: Callable[[Send], Entry],
    ) -> None:
        self._pool = pool
        self._stage = stage
        self._ledger = ledger
        self._faults = faults
        self._send = send

    def bring_everybody_in(self) -> None:
        """Whoever of the company is missing joins."""
        present = {member.name for member in self._pool.stats().members}
        for name in CORE:
            if name not in present:
                self._pool.ask(AddMember(self._faults.member(name)), timeout=PATIENCE_S)

    def everybody_comes_back(self) -> Iterator[str]:
        """With time and calls that succeed, every member can take a request again: no permit lost.

        Only what must be reset by hand is: a breaker forced open or disabled, a member given up.
        """
        self.bring_everybody_in()
        for _ in range(12):
            self._stage.clock.advance(61.0)
            self._reset_by_hand()
            self._try(Send(Way.FUTURE, key=str(n)) for n in range(TRIALS))
            stats = self._pool.stats()
            if all(member.circuit is CircuitState.CLOSED for member in stats.members):
                break
        stats = self._wait_until_available()
        for member in stats.members:
            if member.name not in stats.available:
                yield f"it does not come back: {member}"

    def every_slot_is_free(self, act: Act) -> Iterator[str]:
        """As many calls as there are slots can be held at the same time.

        The sticky strategy waits for its current member, so there it is done member by member.
        """
        self._pool.ask(ResetAll(), timeout=PATIENCE_S)
        members = self._wait_until_available().members
        if act.strategy != "failover":
            yield from self._fill(members)
            return
        for member in members:
            for other in members:
                if other is not member:
                    self._pool.ask(ForceOpen(other.name), timeout=PATIENCE_S)
            yield from self._fill((member,))
            self._pool.ask(ResetAll(), timeout=PATIENCE_S)

    def reset_everybody(self) -> None:
        """As if nothing had happened."""
        self._pool.ask(ResetAll(), timeout=PATIENCE_S)
        self._wait_until_available()

    def _fill(self, members: tuple[MemberStats, ...]) -> Iterator[str]:
        slots = sum(member.max_concurrency for member in members)
        for number in range(slots):
            self._send(Send(Way.FUTURE, (Move.HOLD,), key=str(number)))
        held = self._stage.wait_until_held(slots, PATIENCE_S)
        if held < slots:
            yield f"{held} of {slots} slots can be used: {self._pool.stats()}"
        self._let_all_end()

    def _try(self, sends: Iterator[Send]) -> None:
        for send in sends:
            self._send(send)
        self._let_all_end()

    def _let_all_end(self) -> None:
        """Wait for the answers; where one wants time to pass, it does, but not in a hurry."""
        for _ in patience():
            self._stage.let_go()
            if self._ledger.wait(self._ledger.all_heard, 0.05):
                break
            self._stage.clock.advance(0.5)
        self._stage.wait_until_nothing_runs(PATIENCE_S)

    def _reset_by_hand(self) -> None:
        """Time enough has passed for every restart: without an actor is who was given up."""
        self._faults.inner.reset()
        for member in self._pool.stats().members:
            forced = member.circuit in (CircuitState.FORCED_OPEN, CircuitState.DISABLED)
            if forced or not self._faults.has_an_actor(member.name):
                self._pool.reset_member(member.name)

    def _wait_until_available(self) -> PoolStats:
        """What is on its way, a probe or a new actor, arrives."""
        stats = self._pool.stats()
        for turn in patience():
            if len(stats.available) == len(stats.members):
                break
            if turn > 50:
                self._stage.clock.advance(1.0)
            if turn > 2000:
                break
            stats = self._pool.stats()
        return stats

"""The call that runs one attempt of a request on its member."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from greenroom.actors.claims.claims import Claims
from greenroom.actors.executors.call import Call, CallPhase, Executor
from greenroom.actors.member.chunk_writer import ChunkWriter
from greenroom.actors.member.hosted_agent import NOBODY, HostedAgent
from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages.errors import RequestCancelledError
from greenroom.messages.execution import Execute, Ticket
from greenroom.messages.replies import Metadata


class Owner(Protocol):
    """The member actor whose call it is. All of this is called from wherever the call runs."""

    @property
    def member_name(self) -> str:
        """The member's name."""

    @property
    def claims(self) -> Claims:
        """Where it is known whether an attempt may begin."""

    @property
    def label(self) -> str:
        """What to call the member in a log or a task list."""

    def finished(self, call: AttemptCall, value: Any, error: BaseException | None) -> None:
        """The call has ended, was given up, or will never begin."""

    def unreported(self, call: AttemptCall, raised: BaseException) -> None:
        """The report of its end has raised."""

    def ended_late(self, call: AttemptCall) -> None:
        """A call that was given up has ended after all."""

    def side_effects_start(self, call: AttemptCall) -> None:
        """The agent is about to do what must not be repeated; raises where it must not begin."""

    def collecting(self, call: AttemptCall) -> Callable[[Any], object] | None:
        """The answer comes in chunks: what is to be told of each, if anything is."""

    def alive(self, call: AttemptCall) -> None:
        """The agent says that it is at work; raises where nobody wants that."""

    def spent(self, call: AttemptCall, took: Mapping[str, int]) -> None:
        """The agent says what the call takes."""

    def limits_seen(
        self, call: AttemptCall, cost: str, remaining: int, resets_in_s: float, whole: int | None
    ) -> None:
        """The agent's provider has said what is left of a limit."""


class AttemptCall(Call):
    """One attempt on its way through an executor.

    A class of its own, where functions would do: there is one for every attempt, and five closures
    for each cost more time and memory than all else that a member does for it.

    Args:
        work: runs the agent, in the call's executor.

    Attributes:
        message: what is asked for.
        hosted: the agent that it was given to.
        ticket: the attempt's name.
        writer: where the chunks go; None where one answer is wanted.
        life_signs: its signs of life; None as long as nobody watches for any.
        metadata: what its agent has said of its answer; None as long as that is nothing.
        spent: what it has said that it took; None as long as that is nothing.
        told: whether it has said anything that the router must know with its end, or before.
    """

    __slots__ = (
        "_owner",
        "hosted",
        "life_signs",
        "message",
        "metadata",
        "spent",
        "ticket",
        "told",
        "writer",
    )

    def __init__(
        self,
        owner: Owner,
        work: Callable[[AttemptCall], Any],
        executor: Executor,
        message: Execute,
        writer: ChunkWriter | None = None,
        hosted: HostedAgent = NOBODY,
    ) -> None:
        # What the base does, without a call of it.
        self.name = f"{owner.label}:{message.request_id}"
        self.executor = executor
        self.work = work
        self.collects = writer is None
        self.context = message.context
        self.collected = self.side_effects = False
        self.phase = CallPhase.WAITING
        self.cancelled = self.handle = self.canceller = None
        self.metadata: Metadata | None = None
        self.spent: Mapping[str, int] | None = None
        self.told = False
        self.started_at = 0.0
        # Taken out: the traceback of an agent's error, which the app may keep, leads back to it.
        object.__setattr__(message, "context", None)
        self._owner = owner
        self.hosted = hosted
        self.message = message
        self.ticket: Ticket = (message.request_id, message.attempt)
        self.writer = writer
        self.life_signs: LifeSigns | None = None if writer is None else writer.life_signs

    @property
    def asker(self) -> PoolFuture[Any] | None:
        """Whose answer it is to bring; None for a tell, and of one that has been given up."""
        claim = self._owner.claims.look(self.ticket)
        return None if claim is None else claim.future

    def begin(self, now: float) -> bool:
        """WAITING -> RUNNING; False when it was cancelled before, be it that its loop has still to
        hear of that, or must not begin any more: then it is reported here as one that has never
        begun. (The rest is what the base does: a call of that for every attempt can be measured.)
        """
        claims = self._owner.claims
        # The look at the dict first: it is empty where no requests may race, and nobody is asked.
        barred = claims.unbegun and not claims.may_begin(self.ticket)
        if (barred or self.cancelled is not None) and self.drop():
            self.finish(None, None)
            return False
        self.started_at = now
        with self.executor.guard:
            begins = self.phase is CallPhase.WAITING
            if begins:
                self.phase = CallPhase.RUNNING
        return begins

    def finish(self, value: Any, error: BaseException | None) -> None:
        self._owner.finished(self, value, error)

    def unreported(self, error: BaseException) -> None:
        self._owner.unreported(self, error)

    def late(self) -> None:
        self._owner.ended_late(self)

    def start_side_effects(self) -> None:
        super().start_side_effects()
        self._owner.side_effects_start(self)

    def hearing(self) -> Callable[[Any], object] | None:
        return self._owner.collecting(self)

    def describe(self, said: Mapping[str, Any]) -> None:
        """Its agent says something of its answer."""
        # Another one each time: it is read in other threads.
        self.metadata = Metadata({**(self.metadata or {}), **said})

    def spend(self, took: Mapping[str, int]) -> None:
        """Its agent says what it takes."""
        self.spent, self.told = {**(self.spent or {}), **took}, True
        self._owner.spent(self, took)

    def limits(self, cost: str, remaining: int, resets_in_s: float, whole: int | None) -> None:
        """Its agent says what is left of a limit."""
        self.told = True
        self._owner.limits_seen(self, cost, remaining, resets_in_s, whole)

    def alive(self) -> None:
        """A sign of life.

        Raises:
            RequestCancelledError: the call has been given up.
        """
        if self.cancelled is not None or self.phase is not CallPhase.RUNNING:
            raise RequestCancelledError(f"{self.name} has been given up: {self.cancelled}")
        self._owner.alive(self)

"""A simulated member: it takes calls, lets them wait, and ends them when their time has come."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from greenroom.messages.execution import CancelExecution, Execute, Ticket
from greenroom.messages.status import CancelReason
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.faults import Ending
from greenroom.simulate.scenario import MemberSpec

_NEVER = Ending(math.inf)


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """One attempt, on one member.

    Attributes:
        began_at: when the member was given it.
        served: whether the member works on it; until then it waits in the member's own queue.
        ending: how it will end by itself: never, until the member works on it.
        cancelled: why it is to end before that; None if it is not.
    """

    message: Execute
    member: str
    began_at: float
    served: bool = False
    ending: Ending = _NEVER
    cancelled: CancelReason | None = None

    @property
    def ticket(self) -> Ticket:
        """What names it in messages."""
        return self.message.request_id, self.message.attempt


class SimMember:
    """What stands behind a member's name: its latency, its faults, its own queue.

    A call that is cancelled ends in the same moment, once everybody has heard of what cancelled it,
    as that of an async agent does.

    Args:
        ended: told of every call that has ended.
    """

    def __init__(
        self,
        spec: MemberSpec,
        agenda: Agenda,
        rng: random.Random,
        ended: Callable[[Call], None],
    ) -> None:
        self._name = spec.name
        self._agenda = agenda
        self._ended = ended
        self._draw = spec.latency.drawn_with(rng)
        self._speed = spec.speed
        self._idle = spec.at_work
        self._calls: dict[Ticket, Call] = {}
        self._waiting: deque[Call] = deque()
        self._faults = [(fault, fault.trouble.effect(rng)) for fault in spec.faults]

    def take(self, message: Execute) -> None:
        """Work on a call, at once or when its turn has come."""
        call = Call(message, self._name, self._agenda.now)
        self._calls[call.ticket] = call
        if self._idle:
            self._serve(call)
        else:
            self._waiting.append(call)

    def cancel(self, message: CancelExecution) -> None:
        """Let go of a call, if it has not ended."""
        call = self._calls.get((message.request_id, message.attempt))
        if call is not None and call.cancelled is None:
            call.cancelled = message.reason
            self._agenda.at(self._agenda.now, self._end, call)

    def _serve(self, call: Call) -> None:
        self._idle -= 1
        call.served = True
        now = self._agenda.now
        ending = Ending(self._draw() / self._speed)
        for fault, effect in self._faults:  # what those make of it that last, one after the other
            if fault.from_s <= now < fault.until_s:
                ending = effect(ending, now)
        call.ending = ending
        if ending.seconds != math.inf:
            self._agenda.at(now + ending.seconds, self._end, call)

    def _end(self, call: Call) -> None:
        if self._calls.pop(call.ticket, None) is None:  # tickets are those of one run: never reused
            return  # it has ended already, as it was cancelled
        if call.served:
            self._idle += 1
        waiting = self._waiting
        while waiting and self._idle:  # it turns to who has waited longest
            first = waiting.popleft()
            if first.cancelled is None:
                self._serve(first)
        self._ended(call)

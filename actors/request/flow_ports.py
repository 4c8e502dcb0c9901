"""What the life of a request needs of the world around it: plain calls, none of which waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from greenroom.actors.request.flow_observer import FlowObserver
from greenroom.actors.request.job import Job
from greenroom.actors.runtime.alarms import Alarm
from greenroom.messages.events import Event
from greenroom.messages.execution import CancelExecution, Execute
from greenroom.messages.supervision import (
    MemberDrained,
    MemberRoute,
    Outcomes,
    TableWanted,
    TrialStarted,
)

SeeTo = Callable[[Job | None, str, Callable[[], object]], None]
"""Does what is due for a request, by a timer, say: if that raises, no message will tell of it, so
the request has failed by that. It is told the request, None for what is nobody's, and what is done.
"""


class Events(Protocol):
    """Where events and complaints go; an `EventBus`, say."""

    def listening(self, level: str = "DEBUG") -> bool:
        """Whether anybody reads what is logged at that level: else it need not be made."""

    def emit(self, event: Event) -> None:
        """Something has happened."""

    def complain_of(self, what: str, error: BaseException) -> None:
        """Code of the user's, or of the pool's, has raised."""

    def hint(self, what: str) -> None:
        """Advice for whoever runs the pool."""


@dataclass(frozen=True, slots=True)
class FlowPorts:
    """The world as a `RequestFlow` sees it. Nothing here may wait, or call the flow back before it
    has returned: what follows comes as a call of its own, later.

    Attributes:
        now, wall: the time on the pool's clock, which never goes back, and on the wall's.
        paused_at: when the last pause of the process ended, on the pool's clock.
        at: has an action called once it is that time, unless the alarm is cancelled first.
        send: gives a member its part of a request; False if its actor has ended.
        cancel: tells a member to end one.
        report: how attempts have ended, for the supervisor; it may be read at once.
        note: what else the supervisor is told of a member, or asked for.
        answer: gives the asker, if there is one, the value of that member, after so many seconds.
        fail: gives the asker an error; False if there is none.
        events: who is told what happens.
        observer: who watches each step; None, as nearly always: nobody.
    """

    now: Callable[[], float]
    wall: Callable[[], float]
    paused_at: Callable[[], float]
    at: Callable[[float, Callable[[], None]], Alarm]
    send: Callable[[MemberRoute, Execute], bool]
    cancel: Callable[[MemberRoute, CancelExecution], object]
    report: Callable[[Outcomes], object]
    note: Callable[[TrialStarted | MemberDrained | TableWanted], object]
    answer: Callable[[Job, Any, str, float], object]
    fail: Callable[[Job, BaseException], bool]
    events: Events
    observer: FlowObserver | None = None

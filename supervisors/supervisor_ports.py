"""What the parts of the supervisor reach the world by: plain calls, none of which waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from greenroom.actors.member.surroundings import LoopGone, LoopLost, LoopSilent
from greenroom.actors.runtime.alarms import Alarm
from greenroom.messages.config import PoolConfig
from greenroom.messages.events import Event
from greenroom.messages.supervision import (
    CancelProbe,
    CommandDone,
    Leave,
    Probe,
    Reconfigured,
    RoutingSnapshot,
    TrialDue,
)
from greenroom.supervisors.member_record import MemberRecord

ToMember = Probe | CancelProbe | TrialDue | LoopSilent | LoopLost | LoopGone | Leave | Reconfigured
ToRouter = RoutingSnapshot | CommandDone


@dataclass(slots=True, eq=False, repr=False)
class SupervisorPorts:
    """The world of every part. A part is called by one thread at a time: whoever handles the
    supervisor's message, which need not be the supervisor's own thread; see `Mailbox.lend`.

    Attributes:
        pool: the pool's name, for events.
        config: the settings as they are now; only the `Reconfigurer` changes them.
        now: monotonic seconds.
        paused_at: when the last pause of the process ended, on the same clock.
        at: have something called at a time, in the supervisor's turn.
        emit: have an event announced, once the router knows how things stand.
        tell: tell the actor behind a member's name, if there is one; as a rule it handles what it
            is told in this very thread.
        tell_router: tell the router.
        complain_of: log a fault that is not the pool's.
    """

    pool: str
    config: PoolConfig
    now: Callable[[], float]
    paused_at: Callable[[], float]
    at: Callable[[float, Callable[[], None]], Alarm]
    emit: Callable[[Event], None]
    tell: Callable[[MemberRecord, ToMember], object]
    tell_router: Callable[[ToRouter], object]
    complain_of: Callable[[str, BaseException], None]

"""The routing table as the router is told of it, and when it is next due for a look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from greenroom.actors.runtime.alarms import Alarm
from greenroom.messages.supervision import RoutingSnapshot
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.supervisor_ports import SupervisorPorts

AGAIN_S = 1.0
"""How many seconds until what could not be done is tried again."""


@dataclass(eq=False, repr=False)
class RoutePublisher:
    """Tells the router how things stand, and notices when time alone changes that.

    Args:
        records: all members, in order; read only.
        _on_review: called when time alone has something to say.
        keep_in: called before the router is told, with those that have changed, or none for all: it
            may change others, and says which. See `LastOne`.
    """

    _ports: SupervisorPorts
    records: Mapping[str, MemberRecord]
    _on_review: Callable[[], None]
    keep_in: Callable[[Sequence[MemberRecord]], list[MemberRecord]] = lambda changed: []

    def __post_init__(self) -> None:
        self._epoch = 0
        self._review_alarm: Alarm | None = None

    def publish(self, *changed: MemberRecord, gone: tuple[str, ...] = ()) -> None:
        """Tell the router how things stand, with all members or only with those that have changed:
        among thousands that is the difference between a millisecond and a tenth of a second.

        Args:
            gone: names that are those of other members from now on, nothing of the old ones counts.
        """
        now = self._ports.now()
        kept = self.keep_in(changed)
        if changed:
            changed += tuple(each for each in kept if each not in changed)
        self._epoch += 1
        if changed:
            here = [each for each in changed if self.records.get(each.name) is each]
            routes = tuple(record.route(now) for record in here)
            # By name, not by identity: where it is taken by another member
            # already, that one is told of itself.
            gone += tuple(each.name for each in changed if each.name not in self.records)
            since = self._epoch - 1
            self._ports.tell_router(RoutingSnapshot(self._epoch, routes, since=since, gone=gone))
        else:
            routes = tuple(record.route(now) for record in self.records.values())
            self._ports.tell_router(RoutingSnapshot(self._epoch, routes))
        self.plan_review(*changed)

    def plan_review(self, *changed: MemberRecord) -> None:
        """Have a look when time alone has something to say, of all or of those that have changed.
        In that case the look that was planned may come too early, which does no harm.
        """
        now = self._ports.now()
        times = (record.next_event_at(now) for record in changed or self.records.values())
        when = min((at for at in times if at is not None), default=None)
        if self._review_alarm is not None:
            # Too early is harmless, too late is not.
            if changed and (when is None or when >= self._review_alarm.when):
                return
            # Most tables change nothing of it: no alarm is set anew for each.
            if self._review_alarm.when == when:
                return
            self._review_alarm.cancel()
        self._review_alarm = None if when is None else self._ports.at(when, self._review)

    def review_soon(self, delay_s: float = 0.0) -> None:
        """Have a look, at all of them, and tell the router: something has gone wrong."""
        if self._review_alarm is not None:
            self._review_alarm.cancel()
        self._review_alarm = self._ports.at(self._ports.now() + delay_s, self._review)

    def _review(self) -> None:
        """If that raises, it is done again: nothing else would end an opening or a rest."""
        self._review_alarm = None
        try:
            self._on_review()
            self.publish()
        except BaseException:
            self.review_soon(AGAIN_S)
            raise

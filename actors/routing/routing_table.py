"""The router's routing table: its view of every member, and the choice among them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from greenroom.actors.routing.headroom import Costs, Headroom
from greenroom.actors.routing.selection import EVERYBODY, Eligible, Terms, TermsKey, eligible
from greenroom.actors.routing.slot import FreeSlots, Slot
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.strategies import FreeMembers, PickContext, RoutingStrategy, is_built_in
from greenroom.actors.strategies.order import INDEX, at
from greenroom.actors.strategies.protocol import BuiltIn
from greenroom.messages.errors import StrategyError, summary
from greenroom.messages.screening import Accepts
from greenroom.messages.status import CircuitState, SkipReason
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot, Successes

__all__ = ["NoPick", "RoutingTable", "Slot"]


class NoPick(Enum):
    """Why there is nobody to send a request to."""

    BUSY = "somebody could take it once a slot is free, or a restart is over"
    UNROUTABLE = "nobody could take it"


_UNMARKED = (False, False)

_FEW = 20
"""More than so many are left out of a list by a look at each that stays."""
_UNTIMED = 32
"""Of so many runs of successes it is kept how long they have taken until somebody asks."""
_MOST_TERMS = 1_000
"""Of so many different terms it is remembered who may have a request."""


def _marks_of(route: MemberRoute) -> tuple[bool, bool]:
    """What the table keeps a note of: whether requests can be its trials, whether it drains."""
    return route.trial_permits is not None, route.blocked is SkipReason.DRAINING


def _is_another(before: MemberRoute, after: MemberRoute) -> bool:
    """Whether a strategy, or a request that names members, may see it in another light."""
    if before.weight != after.weight or before.tags != after.tags:
        return True
    return before.accepts is not after.accepts


class BusyMembers(Collection[str]):
    """The untried members that could take a request once they have room, by a look at those that
    somebody asks for.
    """

    def __init__(self, slots: dict[str, Slot], tried: Collection[str]) -> None:
        self._slots = slots
        self._tried = tried

    def __contains__(self, name: object) -> bool:
        slot = self._slots.get(name) if isinstance(name, str) else None
        if slot is None or slot.is_free or name in self._tried:
            return False
        return slot.skip_reason() is SkipReason.SATURATED

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._slots if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class RoutingTable:
    """All slots in the configured order, and the strategy that chooses among them.

    Who is free is kept up to date by the slots, so that a pick need not look at each. Strategies of
    this package read that list in place; a user's own is given a copy.
    """

    def __init__(self, strategy: RoutingStrategy, rng: random.Random) -> None:
        self.strategy = strategy
        self.treats_alike = is_built_in(strategy)
        """Whether no request finds nobody where another would find somebody."""
        self.headroom = Headroom()
        self.epoch = 0
        self.draining = False
        self._rng = rng
        self._slots: dict[str, Slot] = {}
        # The slot of a name: bound once, since each failure asks seven times.
        self.get: Callable[[str], Slot | None] = self._slots.get
        self._order: tuple[Slot, ...] = ()
        self.half_open: list[str] = []
        """Members of whose breakers requests can be the trials."""
        self.one_at_a_time = bool(getattr(strategy, "one_at_a_time", False))
        self._preferred: Any = None
        # Only of those of this package: a user's attribute of that name may mean anything.
        if isinstance(strategy, BuiltIn):
            self._preferred = getattr(strategy, "preferred", None)
        self._room = FreeSlots()
        self.free = self._room.free
        """Who could take a request right now; read only."""
        self._record: Any = getattr(strategy, "record", None)
        self.learns = self._record is not None
        """Whether the strategy wants to know how attempts end."""
        self._members_changed: Any = getattr(strategy, "members_changed", None)
        self.screens: tuple[Accepts, ...] = ()
        """What is to be asked about a payload, each function once. Replaced, never changed: those
        who make requests read it in threads of their own.
        """
        self._eligible: dict[TermsKey, Eligible] = {}
        self.longest_s = 0.0
        """No member's calls have taken longer of late, as far as has been read."""
        self.untimed: deque[Successes] = deque(maxlen=_UNTIMED)
        """Successes of which it has not been read how long they have taken: few requests want to
        know, and those that come by the thousand shall not pay for it. Changed by its reader and
        by who leaves them there.
        """
        self._groups: dict[str, list[str]] = {}  # names by group, of members that have one

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names in the configured order."""
        return tuple(slot.name for slot in self._order)

    def apply(self, snapshot: RoutingSnapshot) -> bool:
        """Take a snapshot over if it is newer than the last one; whether it was."""
        if snapshot.epoch <= self.epoch:
            return False
        whole = snapshot.since is None
        # A change: only what it was made from may be changed by it.
        if not whole and snapshot.since != self.epoch:
            return False
        regrouped = any(self._is_regrouped(route) for route in snapshot.members)
        gone: Iterable[str] = snapshot.gone
        if whole:
            names = {route.name for route in snapshot.members}
            gone = [name for name in self._slots if name not in names]
        # Its name may come back without a group.
        leavers = filter(None, map(self.get, gone))
        regrouped = regrouped or any(slot.route.group is not None for slot in leavers)
        marks = self._take_over(snapshot.members, gone)
        if regrouped:
            self._look_for_groups()
        # A look at all members, so only where somebody is, or was, half-open or draining.
        if whole or marks != {_UNMARKED}:
            self._look_for_marks()
        # Noted last: what raises half way is not taken for done.
        self.epoch = snapshot.epoch
        return True

    def misses(self, snapshot: RoutingSnapshot) -> bool:
        """Whether it is a change of a snapshot that has not been taken over: only a whole one helps
        from then on.
        """
        return snapshot.since is not None and snapshot.since > self.epoch

    def mend(self) -> None:
        """Something has raised half way: find out anew who there is, and who is free."""
        self._put_in_order()
        self._look_for_marks()
        free = self._room.free
        free.priorities_changed()
        free[:] = [slot for slot in self._order if slot.reviewed()]

    def _put_in_order(self) -> None:
        """A name, a tag, an index or a weight has changed."""
        self._eligible.clear()
        before = () if self._members_changed is None else self.names
        self._order = tuple(sorted(self._slots.values(), key=INDEX))
        self._room.free.everybody = self._order
        # A weight alone does not concern it: the same names stand at the same places.
        if self._members_changed is not None and before != self.names:
            self._guarded("members_changed", self._members_changed, self.names)

    def _is_regrouped(self, route: MemberRoute) -> bool:
        known = self._slots.get(route.name)
        return route.group != (None if known is None else known.route.group)

    def _look_for_groups(self) -> None:
        self._groups = {}
        for slot in self._order:
            if slot.route.group is not None:
                self._groups.setdefault(slot.route.group, []).append(slot.name)

    def _with_mates(self, names: Collection[str]) -> Collection[str]:
        """Those, and all that are of one group with any of them. A name that has left, and is still
        among its group's, does no harm.
        """
        found = set(names)
        for name in names:
            slot = self._slots.get(name)
            if slot is not None and slot.route.group is not None:
                found.update(self._groups.get(slot.route.group, ()))
        return names if len(found) == len(names) else found

    def _look_for_marks(self) -> None:
        self.half_open = [s.name for s in self._order if s.route.trial_permits is not None]
        self.draining = SkipReason.DRAINING in [s.route.blocked for s in self._order]

    def _take_over(
        self, routes: Iterable[MemberRoute], gone: Iterable[str]
    ) -> set[tuple[bool, bool]]:
        """Let those that are gone leave, and have a slot for each route; the marks that members of
        these names had, and have now.
        """
        slots, marks = self._slots, set[tuple[bool, bool]]()
        reordered = False
        for slot in [slots.pop(name) for name in gone if name in slots]:
            marks.add(_marks_of(slot.route))
            slot.leave()
            reordered = True
        for route in routes:
            known = slots.get(route.name)
            marks.add(_marks_of(route))
            if known is not None and known.index == route.index:
                marks.add(_marks_of(known.route))
                reordered = reordered or _is_another(known.route, route)
                known.update(route)
                continue
            if known is not None:
                known.leave()
                del slots[route.name]  # a name that comes back stands behind the others
            slots[route.name] = Slot(route, self._room)
            reordered = True
        if reordered:
            self._put_in_order()
            asked = (slot.route.accepts for slot in self._order)
            self.screens = tuple({id(each): each for each in asked if each is not None}.values())
        return marks

    def eligible(self, terms: Terms | None) -> Eligible:
        """Who may have a request that asks for that; None: for nothing."""
        if terms is None:
            return EVERYBODY
        known = self._eligible.get(terms.key)
        if known is None:
            if len(self._eligible) >= _MOST_TERMS:
                del self._eligible[next(iter(self._eligible))]
            known = eligible(terms, self._order, self._turns())
            self._eligible[terms.key] = known
        return known

    def kept_from(
        self, terms: Terms | None, costs: Costs, now: float
    ) -> list[tuple[Slot, SkipReason, str]]:
        """Who must not have a request, or has no headroom for it, and why, in words."""
        barred, found = self.eligible(terms).barred, []
        for slot in self._order:
            not_allowed = barred.get(slot.name)
            if not_allowed is not None:
                found.append((slot, not_allowed.reason, not_allowed.detail))
            elif slot.buckets:
                lacking = self.headroom.why(slot, costs, now)
                if lacking is not None:
                    found.append((slot, SkipReason.HEADROOM, lacking))
        return found

    def _turns(self) -> RoutingStrategy | None:
        """One that takes turns among some members only: by the turns of all, requests that may go
        to different ones, and come by turns themselves, would leave members out for good.
        """
        strategy: Any = self.strategy
        return type(strategy)() if self.treats_alike and strategy.takes_turns else None

    def read_times(self) -> None:
        """Take in how long the last successes of the members have taken."""
        while self.untimed:
            each = self.untimed.popleft()
            slot = self._slots.get(each.member)
            if slot is not None and slot.route.incarnation == each.incarnation:
                slot.times.extend(each.at, each.elapsed_s)
                self.longest_s = max(self.longest_s, *each.elapsed_s)

    def still_running(self, member: str, elapsed_s: float, now: float) -> None:
        """A call of a member was cut short that had run for so long."""
        slot = self._slots.get(member)
        if slot is not None:
            slot.times.at_least(elapsed_s, now)
            self.longest_s = max(self.longest_s, elapsed_s)

    def too_slow(self, left_s: float, now: float) -> Collection[str]:
        """Those of whose calls one in ten takes as long as that, or longer. To be asked where
        `longest_s` is as long, too.
        """
        self.longest_s = max((slot.times.longest_s for slot in self._order), default=0.0)
        return [slot.name for slot in self._order if slot.is_too_slow(left_s, now)]

    def pick(
        self,
        tried: Collection[str],
        context: PickContext,
        exhaustive: bool = False,
        never: Collection[str] = (),
        last: Collection[str] = (),
        failed: Collection[str] | None = None,
    ) -> Slot | NoPick:
        """The strategy's choice: among the untried, and among the tried when no untried may come.
        Of the untried first among those of groups in which none has failed.

        Args:
            failed: those of the tried whose groups are left first; None: of all of them. Others are
                among the tried because they must not have it.
            exhaustive: whether none of the tried will do.
            never: those of the tried that must not be chosen.
            last: those of the tried that are asked only when none of the others may come either.

        Raises:
            StrategyError: the strategy raised, or chose what was not a candidate.
        """
        if exhaustive:
            if self._groups:
                left = tried if failed is None else failed
                apart = self._with_mates(left)
                if apart is not left:
                    other = self._pick_next({*tried, *apart}, context)
                    if isinstance(other, Slot):
                        return other
            return self._pick_next(tried, context)
        if not tried:
            free = self._room.free
            if free and self.treats_alike:  # as `_choose`, without the call: most come this way
                usual: Any = self.strategy.pick(free, context, self._rng)
                return usual or self._nobody(())
            return self._choose(free, context) or self._nobody(())
        chosen = self.pick_untried(tried, context, failed=failed)
        if chosen is not None:
            return chosen
        # An untried one that is busy is better than a tried one that is free: it is waited for.
        if self._nobody(tried) is NoPick.BUSY:
            return NoPick.BUSY
        again = [name for name in tried if name not in never]
        if last:
            chosen = self._choose_again([name for name in again if name not in last], context)
            if chosen is not None:
                return chosen
            if self._nobody({*last, *never}) is NoPick.BUSY:
                return NoPick.BUSY
        return self._choose_again(again, context) or self._nobody(never)

    def pick_untried(
        self,
        tried: Collection[str],
        context: PickContext,
        by: RoutingStrategy | None = None,
        failed: Collection[str] | None = None,
    ) -> Slot | None:
        """The strategy's choice among the free ones that are not tried; None if it makes none.

        Args:
            by: a strategy in place of the pool's.
            failed: as of `pick`.

        Raises:
            StrategyError: as by `pick`.
        """
        if self._groups:
            left = tried if failed is None else failed
            apart = self._with_mates(left)
            if apart is not left:
                chosen = self._choose(self._free_but({*tried, *apart}), context, by)
                if chosen is not None:
                    return chosen
        return self._choose(self._free_but(tried), context, by)

    def _choose_again(self, tried: Collection[str], context: PickContext) -> Slot | None:
        # Strategies count on the configured order; `tried` is in that of the tries.
        return self._choose(sorted(self._free_of(tried), key=INDEX), context)

    def pick_second(
        self,
        taken: Collection[str],
        context: PickContext,
        by: RoutingStrategy | None = None,
        failed: Collection[str] | None = None,
    ) -> Slot | None:
        """The strategy's choice among the free members beside those taken. Trials are for requests
        that have nobody else.

        Args:
            by, failed: as of `pick_untried`.

        Raises:
            StrategyError: the strategy raised, or chose what was not a candidate.
        """
        if self._groups:
            left = taken if failed is None else failed
            apart = self._with_mates(left)
            if apart is not left:
                out = {*taken, *apart, *self.half_open}
                chosen = self._choose(self._free_but(out), context, by)
                if chosen is not None:
                    return chosen
        return self._choose(self._free_but({*taken, *self.half_open}), context, by)

    def _pick_next(self, tried: Collection[str], context: PickContext) -> Slot | NoPick:
        """For strategies that try every member once, in an order of their own; no tried one."""
        # A view: nobody is looked at unless the strategy asks. A user's strategy gets a plain list.
        busy = BusyMembers(self._slots, tried)
        context = replace(context, busy=busy if self.treats_alike else list(busy))
        return self._choose(self._free_but(tried), context) or self._nobody(tried)

    def _free_but(self, names: Collection[str]) -> FreeMembers[Slot]:
        others = self._free_of(names)
        if len(others) > _FEW:
            free = self._room.free
            return FreeMembers([s for s in free if s.name not in names], free.everybody)
        return self._room.free.without(others) if others else self._room.free

    def _free_of(self, names: Collection[str]) -> list[Slot]:
        found = []
        for name in names:  # nearly always one: quicker than a generator
            slot = self._slots.get(name)
            if slot is not None and slot.is_free:
                found.append(slot)
        return found

    def could_take(self, tried: Collection[str]) -> bool:
        """Whether an untried member is free, or will be before long."""
        for slot in self._order:  # any() takes twice as long
            if slot.name not in tried and (slot.is_free or slot.is_awaited()):
                return True
        return False

    @property
    def sticks(self) -> bool:
        """Whether the strategy prefers members for what they keep of earlier requests."""
        return self._preferred is not None

    def prefers(
        self,
        name: str,
        tried: Collection[str],
        context: PickContext,
        barred: Collection[str] = (),
    ) -> bool:
        """Whether a request has no better member than that one, nor one as good that is free.

        Args:
            barred: who must not have it, whatever the strategy prefers.
        """
        for equals in self._by_preference(context, barred):
            others = [slot for slot in equals if slot.name != name]
            # Its own group: whoever stands in a group behind it is no better.
            if len(others) < len(equals):
                return not any(slot.is_free and slot.name not in tried for slot in others)
            if any(slot.in_service for slot in others):
                return False
        return False

    def rests(
        self,
        tried: Collection[str],
        context: PickContext,
        until: float,
        deadline: float | None,
        barred: Collection[str] = (),
    ) -> bool:
        """Whether the member that a request prefers to all that are in service only rests.

        Args:
            until: no longer than this.
            barred: who must not have it, whatever the strategy prefers.
        """
        # Nobody rests, as nearly always: so no order of preference need be made.
        if not self._room.resting and not self._room.unjudged:
            return False
        for equals in self._by_preference(context, barred):
            untried = [slot for slot in equals if slot.name not in tried]
            if any(slot.is_free for slot in untried):
                return False
            if any(slot.rests(until, deadline) or slot.is_unjudged() for slot in untried):
                return True
            if any(slot.in_service for slot in equals):
                return False
        return False

    def _by_preference(
        self, context: PickContext, barred: Collection[str]
    ) -> Iterable[Sequence[Slot]]:
        if self._preferred is None or not self._order:
            return ()
        groups: Iterable[Sequence[Slot]] = self._preferred(self._order, context)
        if not barred:
            return groups
        return ([slot for slot in group if slot.name not in barred] for group in groups)

    def has_room(self) -> bool:
        """Whether any member could take a request right now."""
        return bool(self._room.free)

    def room_to_come(self) -> int:
        """How many requests wait for nothing but the supervisor's word, which is on its way."""
        return sum(slot.room_to_come() for slot in self._room.unjudged)

    def record(self, name: str, succeeded: bool) -> None:
        """Let a strategy that learns know how an attempt ended."""
        if self._record is not None:
            self._guarded("record", self._record, name, succeeded)

    def earliest_reopening(self, besides: Collection[str] = ()) -> float | None:
        """When the first blocked member may be back, on the pool's clock; None if nobody says.

        Args:
            besides: names of members that are of no interest.
        """
        known = (slot.back_at() for slot in self._order if slot.name not in besides)
        return min((at for at in known if at is not None), default=None)

    def somebody_rests(self) -> bool:
        """Whether any member rests."""
        return bool(self._room.resting)

    def first_rested(self, besides: Collection[str] = ()) -> float | None:
        """When the first resting member takes requests again, on the pool's clock; None if nobody
        rests, or if somebody needs no rest and can take one now or before long.

        Args:
            besides: names of members that are of no interest.
        """
        first: float | None = None
        for slot in self._order:
            if slot.name in besides:
                continue
            # Somebody else can take the request: there is no rest to be waited for.
            if slot.is_free or slot.is_awaited():
                return None
            if slot.rest.until and slot.route.blocked is None:
                until = slot.rest.until
                first = until if first is None or until < first else first
        return first

    def asked_to_wait_s(
        self, hopeless: Collection[str], member: str, retry_after_s: float | None, now: float
    ) -> float | None:
        """How many seconds a request has to wait for the first one that can help it, where all who
        can rest; None where somebody need not be waited for.

        Args:
            hopeless: those that cannot help it any more.
            member, retry_after_s: who has failed it last, and what that one has asked for.
        """
        until = self.first_rested(hopeless)
        if until is not None:
            return max(0.0, until - now)
        return None if self.could_take({*hopeless, member}) else retry_after_s

    def trial_running(self, besides: Collection[str] = ()) -> bool:
        """Whether a half-open member is being tried: the answer may bring it back any moment."""
        return any(
            slot.route.circuit is CircuitState.HALF_OPEN
            or slot.route.blocked is SkipReason.STARTING
            for slot in self._order
            if slot.name not in besides
        )

    def is_busy(self, besides: Collection[str] = ()) -> bool:
        """Whether somebody takes requests, and can take one before long.

        Args:
            besides: names of members that are of no interest.
        """
        return any(slot.is_awaited() and slot.name not in besides for slot in self._order)

    def _nobody(self, tried: Collection[str]) -> NoPick:
        return NoPick.BUSY if self.is_busy(tried) else NoPick.UNROUTABLE

    def _choose(
        self,
        candidates: Sequence[Slot],
        context: PickContext,
        by: RoutingStrategy | None = None,
    ) -> Slot | None:
        if not candidates:
            return None
        given = candidates if self.treats_alike else list(candidates)
        try:
            chosen = (by or self.strategy).pick(given, context, self._rng)
            # None is a choice: a strategy may rather wait. What a
            # built-in one chooses is a candidate.
            if chosen is None or self.treats_alike:
                return chosen  # type: ignore[return-value]
            if not isinstance(chosen, Slot) or at(candidates, chosen.index) is not chosen:
                raise StrategyError(
                    f"{self.strategy!r}.pick must return one of its candidates or None, "
                    f"got {chosen!r}"
                )
        except StrategyError:
            raise
        except BaseException as error:  # a user's strategy; the router must live
            name = type(self.strategy).__name__
            raise StrategyError(f"{name}.pick raised {summary(error)}") from error
        return chosen

    def _guarded(self, what: str, hook: Any, *arguments: Any) -> None:
        """The hooks only inform a strategy: what they raise is logged, and costs no request."""
        try:
            hook(*arguments)
        except BaseException as error:
            complain(f"{type(self.strategy).__name__}.{what} raised", error)

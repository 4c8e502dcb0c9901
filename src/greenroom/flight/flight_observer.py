"""What is noted of each request as it goes its way: a `FlowObserver`. Pure.

It is told in the router's turn, so each step is a tuple of plain values at the end of a list, and
whatever can be made of these is made by who reads them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import lru_cache
from typing import Any

from greenroom.actors.request.flow_observer import Ended
from greenroom.actors.request.job import Attempt, AttemptRole, Failure, Job
from greenroom.actors.request.refills import costs_of
from greenroom.actors.routing.load_estimate import Known
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.flight.draws import NO_DRAWS, RecordedDraws
from greenroom.flight.flight_lines import (
    EndLine,
    JudgedLine,
    Line,
    MemberFacts,
    MembersLine,
    RefusedLine,
    RestLine,
    SettingsLine,
    StateLine,
)
from greenroom.flight.flight_steps import (
    DISCONNECTED,
    FAILED,
    FIRST_CHUNK,
    GIVEN,
    LEFT,
    MAY_MEND,
    OPENS_AT_ONCE,
    QUEUED,
    RELEASED,
    RESUMES,
    RUNS,
    STARTED,
    SUCCEEDED,
    UNJUDGED,
    Out,
)
from greenroom.flight.raw_requests import END, FACTS, ID, RUNNING, STEPS, Brief, Raw, begun, whole
from greenroom.flight.settings_said import settings_of
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import AllPoolMembersFailedError, PoolSaturatedError
from greenroom.messages.requests import Acquire, RequestOptions
from greenroom.messages.status import CancelReason, FailureKind
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot

KEPT = 10_000
"""So many requests that have ended are kept in memory."""
KEPT_LINES = 10_000
"""So many other lines are, and of older ones those that still hold."""
KEPT_MEMBERS = 100
"""So many of the older lines that say who is in the pool: kept requests name members by them."""
MOST_LOOKED_AT = 32
"""Of a pool of more members it is not noted what each of them was doing."""
_NEXT_S = 1e-9
_BY_LATENCY = frozenset(("adaptive", "least_latency"))

_MAIN, _HEDGE = AttemptRole.MAIN, AttemptRole.HEDGE
_NOT_BARRED: tuple[tuple[int, str, str], ...] = ()
_NOBODY: tuple[Out, ...] = ()
_NO_RATES: tuple[float, ...] = ()


class FlightObserver:
    """Keeps the last requests, and hands each on that has ended.

    Args:
        strategy: the name of the pool's.
        salt: of the hashes of keys; not written down anywhere.
        draws: where the pool's chance says what it has drawn; None: that is not noted.
        put: is given each request once nothing of it holds a slot any more; None: nobody is.
        put_line: is given all other lines.
    """

    in_time = False

    def __init__(
        self,
        strategy: str,
        salt: bytes,
        draws: RecordedDraws | None = None,
        put: Callable[[Raw | Brief], object] | None = None,
        put_line: Callable[[Line], object] | None = None,
        kept: int = KEPT,
    ) -> None:
        self._times = strategy in _BY_LATENCY
        self._draws = draws
        self._put = put
        self._put_line = put_line
        self._open: dict[str, Raw | Brief] = {}
        self._lingering: dict[tuple[str, int], Raw] = {}
        self._kept: deque[Raw | Brief] = deque(maxlen=kept)
        self._lines: deque[Line] = deque()
        self._still_hold: dict[tuple[type[Line], int], Line] = {}
        self._count = 0
        self._members = 0
        self._facts: dict[int, MemberFacts] = {}
        self._states: dict[int, StateLine] = {}
        self._indices: dict[str, int] = {}
        self._table: RoutingTable | None = None
        self._free: Any = ()
        # Of each member by its place: kept up to date, so that a decision need only copy them.
        self._slots: Sequence[Slot] = ()
        self._places: dict[int, int] = {}
        self._loads: list[int] = []
        self._known: list[Known] = []
        self._size = 0
        self._few = True
        self._failing = False
        self._last = 0.0
        """When something was heard last that is told of with the time at which it was heard."""
        self._hashed = lru_cache(4096)(_Hash(salt))

    def watches(self, table: RoutingTable) -> None:
        """The table of the requests that are told of; before anything else."""
        self._table, self._free = table, table.free

    # -- what has been noted: any thread may ask

    def requests(self) -> list[Raw]:
        """All that are kept, those under way behind those that have ended."""
        under_way = [begun(each, id) for id, each in self._open.copy().items()]
        return [*map(whole, self._kept.copy()), *under_way]

    def about(self, request_id: str) -> list[Raw]:
        """What is kept of the requests of that id, and of those with a key of theirs: of ten
        thousand the others are not looked into.
        """
        kept, under_way = self._kept.copy(), self._open.copy()
        found = [whole(each) for each in kept if each[ID] == request_id]
        if request_id in under_way:
            found.append(begun(under_way[request_id], request_id))
        keys = {key for each in found if (key := _key_of(each)) is not None}
        if keys:
            others = (each for each in (*kept, *under_way.values()) if isinstance(each, list))
            found += [e for e in others if e[ID] != request_id and _key_of(e) in keys]
        return found

    def lines(self) -> list[Line]:
        """What else has been said."""
        lines = self._lines.copy()  # first: one that grows old meanwhile is there twice
        return [*self._still_hold.copy().values(), *lines]

    def dry(self) -> dict[int, float]:
        """The members that lack headroom, and until when, as far as the router has seen by now."""
        return {slot.index: at for slot in self._slots if (at := slot.refills_at)}

    # -- a request, in the order of its steps

    def accepted(self, job: Job, now: float) -> None:
        """It is noted with its first step, which follows at once."""

    def turned_away(self, request_id: str, error: BaseException, now: float) -> None:
        self._say(RefusedLine(id=request_id, at=now, error=type(error).__name__))

    def _raw(self, job: Job) -> Raw:
        """What is noted of a request; begun, if that is its first step."""
        raw = self._listed(job.id)
        if raw is not None:
            return raw
        self._count += 1
        facts = self._facts_of(job, job.work) if _asks(job) else None
        raw = [job.id, self._count, job.accepted_at, self._members, facts, 0, None]
        self._open[job.id] = raw
        return raw

    def _listed(self, request_id: str) -> Raw | None:
        """What is noted of one under way, as a list that can go on; None of any other."""
        raw = self._open.get(request_id)
        if raw.__class__ is tuple:
            raw = self._open[request_id] = begun(raw, request_id)
        return raw  # type: ignore[return-value]

    def queued(self, job: Job, now: float) -> None:
        if now > self._last:
            self._last = now
        self._raw(job).append((QUEUED, now, self._out(None), self._barred(job, now)))

    def given(self, job: Job, attempt: Attempt, role: AttemptRole, now: float) -> Context | None:
        if now > self._last:
            self._last = now
        draws, index = self._draws, attempt.index
        place = self._places[index]
        slot = self._slots[place]
        if self._few:
            self._loads[place] = slot.in_flight
        all_free = len(self._free) + (not slot.is_free) == self._size
        drawn = NO_DRAWS if draws is None or not draws.log else draws.taken()
        # As most are: a list for each, and what it has to say of others, would cost twice as much.
        if (
            all_free
            and role is _MAIN
            and job.attempts == 1
            and not (self._failing or attempt.trial or job.id in self._open or _asks(job))
        ):
            self._count += 1
            self._open[job.id] = (
                self._count,
                job.accepted_at,
                self._members,
                now,
                attempt.number,
                index,
                tuple(self._loads),
                tuple(self._known),
                drawn,
            )
            return None
        raw = self._raw(job)
        raw[RUNNING] += 1
        raw.append(
            (
                GIVEN,
                attempt.number,
                index,
                now,
                0 if role is _MAIN else 1 if role is _HEDGE else 2,
                attempt.trial,
                tuple(self._loads),
                _NOBODY if all_free else self._out(index),
                tuple(self._known),
                self._error_rates(now) if self._failing else _NO_RATES,
                _NOT_BARRED if raw[FACTS] is None else self._barred(job, now),
                drawn,
            )
        )
        return None

    def answered(self, job: Job, attempt: Attempt, elapsed_s: float, now: float) -> None:
        """The usual end of a request: `succeeded`, `released` and `ended` in one."""
        brief = self._open.get(job.id)
        if brief.__class__ is not tuple or self._lingering:
            self.succeeded(attempt, elapsed_s, now)
            self.released(attempt, now)
            self.ended(job, "answered", None, attempt.member, now)
            return
        del self._open[job.id]
        place = self._places.get(attempt.index)
        if place is not None:
            slot = self._slots[place]
            if self._few:
                self._loads[place] = slot.in_flight
            if self._known:
                self._known[place] = slot.load.known()
        raw = (job.id, brief, elapsed_s, self._late(now), now)
        self._kept.append(raw)
        if self._put is not None:
            self._put(raw)

    def first_chunk(self, attempt: Attempt, first_chunk_s: float, now: float) -> None:
        self._add(attempt, (FIRST_CHUNK, attempt.number, first_chunk_s))

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        self._add(attempt, (SUCCEEDED, attempt.number, elapsed_s, self._late(now)))

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        self._failing = True
        if now > self._last:
            self._last = now
        self._look_at(attempt.index)
        flags = (
            STARTED * failure.started
            + MAY_MEND * failure.may_mend
            + OPENS_AT_ONCE * failure.opens_at_once
            + RUNS * failure.runs
            + DISCONNECTED * failure.disconnected
        )
        error = type(failure.error).__name__
        kind, after_s = str(failure.kind), failure.retry_after_s
        number = attempt.number
        self._add(attempt, (FAILED, number, now, kind, failure.elapsed_s, error, after_s, flags))

    def left(self, attempt: Attempt, reason: CancelReason, now: float) -> None:
        self._look_at(attempt.index)
        self._add(attempt, (LEFT, attempt.number, now, str(reason)))

    def resumes(self, job: Job, member: str, at: float, now: float) -> None:
        raw = self._listed(job.id)
        if raw is not None:
            index = self._indices.get(member, -1)
            draws = self._draws
            drawn = NO_DRAWS if draws is None or not draws.log else draws.taken()
            raw.append((RESUMES, index, now, at, drawn))

    def released(self, attempt: Attempt, now: float) -> None:
        raw = self._listed(attempt.ticket[0])
        if raw is None or self._lingering:
            self._released_late(attempt, now)
            return
        raw[RUNNING] -= 1
        self._look_at(attempt.index)
        last = raw[-1]
        if last[0] != SUCCEEDED or last[1] != attempt.number:
            raw.append((RELEASED, attempt.number, now))

    def ended(
        self, job: Job, how: Ended, error: BaseException | None, member: str | None, now: float
    ) -> None:
        raw = self._raw(job)  # of one that was never given to anybody it may be the first step
        del self._open[job.id]
        if error is None:
            index = None if member is None else self._indices.get(member)
            raw[END] = (now, how, index, "", "", ())
        else:
            raw[END] = (now, how, None, *_said(error))
        self._kept.append(raw)
        if not raw[RUNNING]:
            if self._put is not None:
                self._put(raw)
            return
        # Somebody still works on it: its line is written when that has come to its end.
        had = {step[1] for step in raw[STEPS:] if step[0] == RELEASED}
        for step in raw[STEPS:]:
            if step[0] == GIVEN and step[1] not in had:
                self._lingering[job.id, step[1]] = raw

    # -- the pool

    def table(self, snapshot: RoutingSnapshot, now: float) -> None:
        if now > self._last:
            self._last = now
        routes, table = snapshot.members, self._table
        assert table is not None
        states = [line for each in routes if (line := self._state(each, now)) is not None]
        facts = {each.index: facts_of(each) for each in routes}
        if any(self._facts.get(index) != each for index, each in facts.items()) or len(
            table
        ) != len(self._facts):
            there = {slot.index for slot in table}
            known = {**self._facts, **facts}
            self._facts = {index: known[index] for index in sorted(known) if index in there}
            self._indices = {each.name: index for index, each in self._facts.items()}
            self._members += 1
            self._forget_the_gone()
            members = tuple(self._facts.values())
            self._say(MembersLine(number=self._members, at=now, members=members))
        for line in states:
            self._say(line)
        self._slots = slots = tuple(table)
        self._places = {slot.index: place for place, slot in enumerate(slots)}
        few = self._few = len(slots) <= MOST_LOOKED_AT
        self._loads = [slot.in_flight for slot in slots] if few else []
        self._known = [slot.load.known() for slot in slots] if self._times and few else []
        self._size = len(slots)

    def rests(self, member: str, kind: FailureKind, until: float, now: float) -> None:
        index = self._indices.get(member, -1)
        self._say(RestLine(member=index, at=now, until=until, kind=str(kind)))

    def judged(self, member: str, incarnation: int, count: int, now: float) -> None:
        if now > self._last:
            self._last = now
        index = self._indices.get(member, -1)
        self._say(JudgedLine(member=index, at=now, incarnation=incarnation, count=count))

    def configured(self, config: PoolConfig, now: float) -> None:
        settings, left_out = settings_of(config)
        self._say(SettingsLine(at=now, settings=settings, left_out=left_out))

    def _state(self, route: MemberRoute, now: float) -> StateLine | None:
        blocked = None if route.blocked is None else str(route.blocked)
        line = StateLine(
            member=route.index,
            at=now,
            circuit=str(route.circuit),
            blocked=blocked,
            until=route.reopens_at,
            permits=route.trial_permits,
            epoch=route.epoch,
            incarnation=route.incarnation,
            here=route.ref is not None,
        )
        known = self._states.get(route.index)
        self._states[route.index] = line
        if known is not None and _alike(known, line):
            return None
        return line

    # -- what is seldom

    def _say(self, line: Line) -> None:
        if not isinstance(line, JudgedLine):  # it is for who plays a recording again
            self._lines.append(line)
            if len(self._lines) > KEPT_LINES:
                self._grown_old(self._lines.popleft())
        if self._put_line is not None:
            self._put_line(line)

    def _grown_old(self, line: Line) -> None:
        """Of the state of a member, of its rests and of the settings the last line still holds."""
        kind = type(line)
        if isinstance(line, MembersLine):
            self._still_hold[kind, line.number] = line
            self._still_hold.pop((kind, line.number - KEPT_MEMBERS), None)
        elif isinstance(line, StateLine | RestLine):
            if line.member in self._facts:
                self._still_hold[kind, line.member] = line
        elif isinstance(line, SettingsLine):
            self._still_hold[kind, 0] = line

    def _forget_the_gone(self) -> None:
        for index in [each for each in self._states if each not in self._facts]:
            del self._states[index]
        for kind, number in list(self._still_hold):
            if kind in (StateLine, RestLine) and number not in self._facts:
                del self._still_hold[kind, number]

    def _add(self, attempt: Attempt, step: tuple[Any, ...]) -> None:
        # One that its request has left behind comes first: the id may be in use again.
        raw = self._lingering.get(attempt.ticket) or self._listed(attempt.ticket[0])
        if raw is not None:
            raw.append(step)

    def _released_late(self, attempt: Attempt, now: float) -> None:
        raw = self._lingering.pop(attempt.ticket, None)
        if raw is None:
            raw = self._listed(attempt.ticket[0])
            if raw is None:
                return
        raw[RUNNING] -= 1
        self._look_at(attempt.index)
        raw.append((RELEASED, attempt.number, now))
        if not raw[RUNNING] and raw[END] is not None and self._put is not None:
            self._put(raw)

    def give_up(self, now: float) -> None:
        """Nothing more comes: what is still under way is handed on as it is."""
        under_way = [begun(raw, request_id) for request_id, raw in self._open.items()]
        left = {id(raw): raw for raw in (*under_way, *self._lingering.values())}
        self._open.clear()
        self._lingering.clear()
        if self._put is not None:
            for raw in left.values():
                self._put(raw)
        self._say(EndLine(at=now))

    def _late(self, ended_at: float) -> float:
        """By how much later than that the report was read, as far as others were read before."""
        if ended_at > self._last:
            self._last = ended_at
            return 0.0
        self._last += _NEXT_S  # those that lay aside together are told one after the other
        return self._last - ended_at

    def _look_at(self, index: int) -> None:
        place = self._places.get(index)
        if place is not None:
            slot = self._slots[place]
            if self._few:
                self._loads[place] = slot.in_flight
            if self._known:
                self._known[place] = slot.load.known()

    def _error_rates(self, now: float) -> tuple[float, ...]:
        if self._size > MOST_LOOKED_AT:
            return _NO_RATES
        rates = tuple([round(slot.error_rate(now), 4) for slot in self._slots])
        if any(rates):
            return rates
        self._failing = False  # as long as nobody fails again
        return _NO_RATES

    def _out(self, chosen: int | None) -> tuple[Out, ...]:
        slots = self._free.everybody
        if len(slots) > MOST_LOOKED_AT:
            return _NOBODY
        out = []
        for slot in slots:
            if not slot.is_free and slot.index != chosen:
                reason = slot.skip_reason()
                if reason is not None:
                    said = UNJUDGED if slot.is_unjudged() else str(reason)
                    out.append((slot.index, said, slot.back_at(), slot.limit))
        return tuple(out)

    def _barred(self, job: Job, now: float) -> Sequence[tuple[int, str, str]]:
        table = self._table
        if table is None or (job.terms is None and job.work.cost is None):
            return _NOT_BARRED
        found = table.kept_from(job.terms, costs_of(job), now)
        return tuple((slot.index, str(why), words) for slot, why, words in found)

    def _facts_of(self, job: Job, work: RequestOptions) -> dict[str, Any]:
        heard = job.heard
        said: dict[str, Any] = {
            "key": None if work.key is None else self._hashed(work.key),
            "fair": None if job.fair_key is None else self._hashed(job.fair_key),
            "weight": None if heard is None or heard.weight == 1.0 else heard.weight,
            "deadline": job.deadline,
            "priority": work.priority or None,
            "once": None if work.idempotent else True,
            "max_retries": work.max_retries,
            "only": None if work.only is None else list(work.only),
            "exclude": None if work.exclude is None else list(work.exclude),
            "prefer": None if work.prefer is None else list(work.prefer),
            "cost": None if work.cost is None else dict(work.cost),
            "stream": True if job.channel is not None else None,
            "lease": True if job.is_lease else None,
        }
        return {name: value for name, value in said.items() if value is not None}


def _key_of(raw: Raw) -> str | None:
    facts = raw[FACTS]
    return None if facts is None else facts.get("key")


def _asks(job: Job) -> bool:
    """Whether it asks for anything beside an answer."""
    work = job.work
    return (
        job.terms is not None
        or job.deadline is not None
        or job.channel is not None
        or work.key is not None
        or job.heard is not None
        or work.priority != 0
        or not work.idempotent
        or work.max_retries is not None
        or work.cost is not None
        or work.__class__ is Acquire
    )


class _Hash:
    """The hash of a key that tells nobody the key: BLAKE2b with the salt as its key (RFC 7693)."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def __call__(self, key: Any) -> str:
        said = repr(key).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(said, digest_size=8, key=self._salt).hexdigest()


def facts_of(route: MemberRoute) -> MemberFacts:
    """What a recording says of a member."""
    return MemberFacts(
        index=route.index,
        name=route.name,
        weight=route.weight,
        priority=route.priority,
        cost=route.cost,
        max_concurrency=route.max_concurrency,
        learns=route.learns,
        group=route.group,
        tags=route.tags,
        limits=tuple((each.amount, each.per_s, each.cost, each.group) for each in route.limits),
    )


def _alike(one: StateLine, other: StateLine) -> bool:
    """But for the time."""
    return (
        one.permits == other.permits
        and one.circuit == other.circuit
        and one.blocked == other.blocked
        and one.until == other.until
        and one.epoch == other.epoch
        and one.incarnation == other.incarnation
        and one.here == other.here
    )


def _said(error: BaseException) -> tuple[str, str, tuple[tuple[str, str, str], ...]]:
    """What may be written down of an error: nothing that an agent or a payload has a part in."""
    name = type(error).__name__
    if isinstance(error, PoolSaturatedError):
        return name, error.reason, ()
    if isinstance(error, AllPoolMembersFailedError):
        skipped = [each for each in error.errors if not each.attempts]
        return (
            name,
            error.reason,
            tuple((each.member, str(each.kind), each.detail) for each in skipped),
        )
    return name, "", ()

"""The threads around `Deliveries`: tells are received as the pool has room for them, and what has
become of them is said to the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pykka

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.actors.runtime.future import PoolFuture
from greenroom.courier.courier_store import (
    Courier,
    CourierStore,
    QueueFullError,
    Receipt,
    RefusedError,
    Settlement,
)
from greenroom.courier.delivery import Deliveries, Give, Verdict
from greenroom.courier.parcel import packed
from greenroom.messages.errors import (
    PoolStoppedError,
    ResourceError,
    TellNotStoredError,
    summary,
)
from greenroom.messages.events import (
    CourierAway,
    CourierBack,
    Event,
    PoolDraining,
    PoolStopped,
    TellDead,
    TellFailed,
)
from greenroom.messages.replies import PoolStats
from greenroom.messages.requests import GetStats, Request

R = TypeVar("R")

WAIT_S = 0.25
"""How long a thread waits at most for something to do before it looks around."""
LOOK_S = 0.1
"""How old what is known of the pool's room may be."""
TRIED_AGAIN_S = 1.0
"""How soon after it was away the engine is tried again."""
ASK_S = 1.0
"""How long the pool may take to say how its members are."""
MOST_AT_ONCE = 200
"""How many tells are received, or settled, in one step."""
END_S = 3.0
"""How long the end of a pool waits until the engine knows what has become of its tells."""


class _Answered(NamedTuple):
    request_id: str
    future: PoolFuture[Any]


@dataclass(frozen=True, slots=True)
class _Room:
    """How much a pool has at a moment.

    Attributes:
        free: how many requests its members could take now.
        width: how many those take that are available.
    """

    free: int
    width: int


class CourierThreads:
    """Two threads of a pool, both daemons, which end with it: one receives, the other says what has
    become of what was received. Whoever tells stores in the own thread, over the same connection.

    Args:
        scope: the name under which processes share: that of the pool, as it was given.
    """

    def __init__(
        self,
        courier: Courier,
        scope: str,
        *,
        pool: PoolRef,
        bus: EventBus,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._courier = courier
        self._scope = scope
        self._name = bus.pool
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._deliveries = Deliveries(courier.rules, rng)
        self._lock = threading.Lock()  # of the deliveries
        self._connecting = threading.Lock()
        self._store: CourierStore | None = None
        self._away = ""
        self._not_before = 0.0
        self._answers: queue.SimpleQueue[_Answered | Verdict | None] = queue.SimpleQueue()
        self._freed = threading.Event()
        self._closing = False
        self._over = threading.Event()
        self._looked_at = float("-inf")
        self._room = _Room(0, 0)
        self._threads = [
            threading.Thread(target=run, name=f"greenroom-{self._name}-{what}", daemon=True)
            for run, what in ((self._receive_all, "courier"), (self._settle_all, "courier-answers"))
        ]

    def start(self) -> None:
        """Begin.

        Raises:
            ResourceError: the machine has no threads for it.
        """
        end = self._bus.subscribe_to((PoolDraining, PoolStopped), self._told)
        try:
            for thread in self._threads:
                Context().run(thread.start)  # nobody's: what it carries would live as long
        except BaseException as error:
            end()
            self._finish()
            if isinstance(error, RuntimeError):
                raise ResourceError(f"no thread for the courier: {error}") from error
            raise

    def _told(self, event: Event) -> None:
        """Called by whoever emits."""
        self._closing = True
        if isinstance(event, PoolStopped):
            self._finish()
            here = threading.current_thread()
            settles = self._threads[1]
            if settles is not here and settles.ident is not None:
                settles.join(END_S)

    def _finish(self) -> None:
        self._closing = True
        self._over.set()
        self._freed.set()
        self._answers.put(None)

    # -- to store: in the thread of whoever tells

    def post(self, request: Request[Any]) -> str:
        """Store a request; its id. It is stored when this returns.

        Raises:
            TypeError: it cannot be carried.
            TellNotStoredError: it is not stored, or it is not known whether it is.
        """
        request_id = request.request_id or f"{self._scope}-{os.urandom(12).hex()}"
        body = packed(request, request_id)
        maybe, last = False, ""
        for _ in range(2):  # a connection may have broken long ago, with nobody to see it
            try:
                store = self._connected()
            except Exception as error:
                raise self._not_stored(error, maybe, last) from error
            try:
                store.put(request_id, body)
                return request_id
            except QueueFullError:
                most = self._courier.rules.max_queue
                raise TellNotStoredError(
                    self._name, "full", f"{most} tells lie there (max_queue)"
                ) from None
            except RefusedError as error:
                raise TellNotStoredError(self._name, "refused", str(error)) from None
            except Exception as error:
                maybe, last = True, summary(error)
                self._lost(store)
        raise self._not_stored(None, maybe, last)

    def _not_stored(self, error: Exception | None, maybe: bool, last: str) -> TellNotStoredError:
        if isinstance(error, RefusedError):
            return TellNotStoredError(self._name, "refused", str(error))
        said = last if error is None else summary(error)
        return TellNotStoredError(self._name, "away", said, maybe=maybe)

    async def apost(self, request: Request[Any]) -> str:
        """`post`, awaited: a thread stores it. Who is cancelled meanwhile takes nothing back."""
        return await asyncio.to_thread(self.post, request)

    # -- the connection

    def _connected(self) -> CourierStore:
        """The connection; where there is none it is made, but not by everybody at once."""
        with self._connecting:
            if self._store is None:
                if self._over.is_set():
                    raise ConnectionError("the pool has stopped")
                if self._away and self._clock.now() < self._not_before:
                    raise ConnectionError(self._away)
                try:
                    self._store = self._courier.open(self._scope)
                except Exception as error:
                    self._note_away(error)
                    raise
                if self._away:
                    self._away = ""
                    self._bus.emit(CourierBack(pool=self._name))
            return self._store

    def _lost(self, store: CourierStore) -> None:
        """That connection is of no use any more. Whether the engine is away is told by who opens
        the next one.
        """
        with self._connecting:
            if self._store is not store:
                return  # somebody else has found out
            self._store = None
        with contextlib.suppress(Exception):
            store.close()

    def _note_away(self, error: Exception) -> None:
        self._not_before = self._clock.now() + TRIED_AGAIN_S
        said = summary(error)
        if not self._away:
            self._bus.emit(CourierAway(pool=self._name, error=said))
        self._away = said

    def _use(self, work: Callable[[CourierStore], R]) -> R:
        """Do something by the connection; what breaks it is raised."""
        store = self._connected()
        try:
            return work(store)
        except Exception:
            self._lost(store)
            raise

    # -- the thread that receives

    def _receive_all(self) -> None:
        try:
            while not self._over.is_set():
                if self._closing:
                    self._over.wait(WAIT_S)
                    continue
                if not self._receive():
                    self._freed.wait(LOOK_S)
        except (pykka.ActorDeadError, PoolStoppedError):
            pass  # the pool has ended meanwhile
        except BaseException as error:
            self._bus.complain_of("it receives no tells any more", error)

    def _receive(self) -> bool:
        """Receive what there is room for; whether there was any."""
        self._freed.clear()
        most = self._free()
        if most < 1:
            return False
        try:
            receipts = self._use(lambda store: store.receive(min(most, MOST_AT_ONCE), WAIT_S))
        except Exception:  # told once, by `_note_away`; it is tried again
            self._over.wait(TRIED_AGAIN_S / 2)
            return True
        self._take(receipts)
        return True

    def _take(self, receipts: Sequence[Receipt]) -> None:
        with self._lock:
            now = self._clock.wall()
            steps = [self._deliveries.received(each, now) for each in receipts]
        verdicts = [each for each in steps if isinstance(each, Verdict)]
        back = [each.settlement for each in verdicts if each.settlement is not None]
        try:
            if back:
                # Before anything is given: what is not its turn has been counted, and one that is
                # given may end this process.
                self._use(lambda store: store.settle(back))
            for verdict in verdicts:
                self._tell_of(verdict)
        except Exception:  # as of all that cannot be said: it is said again
            for verdict in verdicts:
                self._answers.put(verdict)
        for step in steps:
            if isinstance(step, Give):
                self._give(step)

    def _give(self, give: Give) -> None:
        request_id = give.receipt.request_id
        answered = functools.partial(_Answered, request_id)
        try:
            future: PoolFuture[Any] = self._pool.ask(give.request, block=False)
        except Exception as error:  # the pool has ended; or code of the app's that is asked first
            future = PoolFuture(request_id)
            future.resolve(error=error)
        future.add_done_callback(lambda future: self._answers.put(answered(future)))

    def _free(self) -> int:
        now = self._clock.now()
        with self._lock:
            in_hand = len(self._deliveries)
        if now - self._looked_at >= LOOK_S or now < self._looked_at:
            try:
                stats: PoolStats = self._pool.ask(GetStats(), timeout=ASK_S)
            except pykka.Timeout:
                return 0
            self._looked_at, self._room = now, room_of(stats, in_hand)
        return self._room.free - in_hand

    # -- the thread that says what has become of them

    def _settle_all(self) -> None:
        unsettled: list[Settlement] = []
        extended_at = self._clock.now()
        every_s = self._courier.rules.lease_s / 3
        try:
            while not self._over.is_set():
                wait_s = min(WAIT_S, max(0.0, extended_at + every_s - self._clock.now()))
                unsettled += self._judged(self._next(wait_s))
                if unsettled:
                    unsettled = self._settled(unsettled)
                if self._clock.now() >= extended_at + every_s:
                    extended_at = self._clock.now()
                    self._extend()
            receives = self._threads[0]
            if receives.ident is not None:
                receives.join(2 * WAIT_S)  # what comes by its last step is given back, too
            unsettled += self._judged(self._next(0.0))
            while unsettled:  # what cannot be said now is said by the end of its lease
                left = self._settled(unsettled)
                if len(left) == len(unsettled):
                    break
                unsettled = left
        except BaseException as error:
            self._bus.complain_of("it tells its courier nothing any more", error)
        finally:
            store, self._store = self._store, None
            if store is not None:
                with contextlib.suppress(Exception):
                    store.close()

    def _next(self, wait_s: float) -> list[_Answered | Verdict]:
        """What has happened; wait so long for the first."""
        found: list[_Answered | Verdict] = []
        with contextlib.suppress(queue.Empty):
            each = self._answers.get(timeout=wait_s) if wait_s else self._answers.get_nowait()
            while True:
                if each is not None:
                    found.append(each)
                if len(found) >= MOST_AT_ONCE and not self._over.is_set():
                    break
                each = self._answers.get_nowait()
        return found

    def _judged(self, answers: Iterable[_Answered | Verdict]) -> list[Settlement]:
        found: list[Settlement] = []
        available: bool | None = None
        for each in answers:
            if isinstance(each, Verdict):
                verdict = each
            else:
                error = _error_of(each.future)
                if error is not None and available is None:
                    available = self._anybody()
                    self._looked_at = float("-inf")  # a breaker may have opened
                with self._lock:
                    now = self._clock.wall()
                    verdict = self._deliveries.answered(
                        each.request_id, error, available is not False, now
                    )
            self._tell_of(verdict)
            if verdict.settlement is not None:
                found.append(verdict.settlement)
        self._freed.set()
        return found

    def _anybody(self) -> bool:
        """Whether any member is available."""
        if self._over.is_set():  # its thread waits for this one
            return True
        try:
            stats: PoolStats = self._pool.ask(GetStats(), timeout=ASK_S)
        except (pykka.Timeout, pykka.ActorDeadError, PoolStoppedError):
            return True
        return room_of(stats, 0).width > 0

    def _tell_of(self, verdict: Verdict) -> None:
        settlement = verdict.settlement
        if settlement is None:
            return
        receipt = settlement.receipt
        record = getattr(settlement, "record", receipt.record)
        if verdict.dead:
            self._bus.emit(
                TellDead(
                    pool=self._name,
                    request_id=receipt.request_id,
                    deliveries=record.deliveries,
                    reasons=tuple(each.what for each in record.reasons),
                )
            )
        elif verdict.retried_in_s is not None:
            self._bus.emit(
                TellFailed(
                    pool=self._name,
                    request_id=receipt.request_id,
                    delivery=record.deliveries,
                    of=self._courier.rules.max_deliveries,
                    again_in_s=verdict.retried_in_s,
                    reason=record.reasons[-1].what,
                )
            )

    def _settled(self, settlements: list[Settlement]) -> list[Settlement]:
        """Say so to the engine; what is still to be said, as it is away."""
        if not settlements:
            return []
        try:
            self._use(lambda store: store.settle(settlements[:MOST_AT_ONCE]))
            return settlements[MOST_AT_ONCE:]
        except Exception:  # told once, by `_note_away`
            return settlements

    def _extend(self) -> None:
        with self._lock:
            receipts = list(self._deliveries.receipts())
        if receipts:
            with contextlib.suppress(Exception):  # as there
                self._use(lambda store: store.extend(receipts))


def room_of(stats: PoolStats, in_hand: int) -> _Room:
    """How much room a pool has for tells, those in hand included.

    Args:
        in_hand: how many of its requests are tells that were received.
    """
    if stats.draining:
        return _Room(0, 0)
    here = [
        each
        for each in stats.members
        if each.available or (each.health.is_available and each.in_flight >= each.max_concurrency)
    ]
    width = sum(each.max_concurrency for each in here)
    others = max(0, stats.in_flight + stats.pending - in_hand)
    return _Room(max(0, width - others), width)


def _error_of(future: PoolFuture[Any]) -> BaseException | None:
    try:
        future.get(timeout=0)
    except BaseException as error:
        return error
    return None

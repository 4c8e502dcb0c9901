"""What goes along with a pool where its start asks for it: an endpoint, telemetry, a recording,
what it shares with other processes, what keeps its durable tells.
"""

from __future__ import annotations

import os
import queue
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, Unpack

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.request.flow_observer import FlowObserver
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.courier.courier_store import Courier
from greenroom.flight.flight_recorder import FlightRecorder, Record, check_record
from greenroom.messages.config import PoolConfig
from greenroom.messages.shared_limits import LeaseWanted, LimitTold
from greenroom.otel.activation import TelemetrySetting, check_telemetry, told_by
from greenroom.shared.state_store import SharedState

# Imported where they are asked for: who has none of it need not load what it is made of.
if TYPE_CHECKING:
    from greenroom.otel.pool_telemetry import PoolTelemetry
    from greenroom.shared.sharing_threads import Inbox
    from greenroom.status.endpoints import StatusPlace
    from greenroom.status.status_address import StatusAddress


class Along(TypedDict, total=False):
    """What `AgentPool.start` takes of that."""

    status: str | os.PathLike[str] | None
    telemetry: TelemetrySetting
    record: Record | None
    shared: SharedState | str | None


def check_along(**along: Unpack[Along]) -> None:
    """Refuse what none of that may be, before there is a pool.

    Raises:
        TypeError, ValueError: with the field.
    """
    if (status := along.get("status")) is not None:
        checked_address(status)
    check_telemetry(along.get("telemetry", "auto"))
    check_record(along.get("record"))
    if (shared := along.get("shared")) is not None:
        _shared_state(shared)


class Attachments:
    """Made before the pool, from what `AgentPool.start` was given; nothing has begun by that.

    Attributes:
        observers: whom the router is to tell of each step.
        recorder: what the recording is made by; None without one.
        lend: asked by the router for parts of the rate limits of its members, and told what it has
            learned of them; None where it shares nothing.

    Raises:
        TypeError, ValueError: one of the settings is none, or it names the field.
        ModuleNotFoundError: an extra is missing; it is named.
    """

    def __init__(
        self,
        *,
        status: str | os.PathLike[str] | None,
        telemetry: TelemetrySetting,
        record: Record | None,
        shared: SharedState | str | None,
        courier: Courier | str | None,
    ) -> None:
        self._courier = None if courier is None else _courier(courier)
        self._state = None if shared is None else _shared_state(shared)
        self._inbox: Inbox | None = None
        self.lend: Callable[[LeaseWanted | LimitTold], object] | None = None
        if self._state is not None:
            self._inbox = queue.SimpleQueue()
            self.lend = self._inbox.put
        self._address = None if status is None else checked_address(status)
        check_record(record)
        self._record = None if record is False else record
        self._told = told_by(telemetry)
        self.observers: list[FlowObserver] = []
        self.recorder: FlightRecorder | None = None
        self._place: StatusPlace | None = None
        self._tells: PoolTelemetry | None = None
        self._met = False

    def open(
        self,
        bus: EventBus,
        *,
        strategy: str,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        supervision: int,
    ) -> random.Random:
        """The pool has its name. Returns what it is to draw from: a recording has each draw.

        Args:
            supervision: what the supervisor's chance is seeded with.

        Raises:
            OSError: this process cannot listen there, or the file cannot be opened.
            ResourceError: the machine has no thread for it.
        """
        try:
            if self._address is not None:
                from greenroom.status.endpoints import StatusPlace

                self._place = StatusPlace(self._address)
                self.observers.append(self._place.tally)
            if self._told is not None:
                self._tells = self._told.of_pool(bus, clock)
                self.observers.append(self._tells.book)
            if self._record is None:
                return rng
            self.recorder = FlightRecorder(
                self._record,
                pool=bus.pool,
                strategy=strategy,
                config=config,
                clock=clock,
                rng=rng,
                supervision=supervision,
            )
            self.observers.append(self.recorder.observer)
            return self.recorder.rng
        except BaseException:
            self.close()
            raise

    def meet(self, router: PoolRef, bus: EventBus) -> None:
        """The router runs, and has no members yet: their first events are heard, too."""
        self._met = True
        if self._tells is not None:
            self._tells.begin(router)
        if self._place is not None:
            self._place.hear(router, bus)
            router._ended.watch(self._place.leave)

    def begin(
        self, router: PoolRef, bus: EventBus, *, scope: str, clock: Clock, rng: random.Random
    ) -> None:
        """The pool runs, and can be asked.

        Args:
            scope: the name by which processes share: as it was given, without a number.
            rng: a chance of its own, since a thread of its own draws from it.

        Raises:
            ResourceError: the machine has no thread for it.
        """
        if self._place is not None:
            self._place.show()
        draws = rng.getrandbits(64)  # before a thread has it
        if self._state is not None:
            from greenroom.shared.sharing_threads import SharingThreads

            SharingThreads(
                self._state,
                scope,
                name=bus.pool,
                pool=router,
                bus=bus,
                clock=clock,
                rng=rng,
                inbox=self._inbox,
            ).start()
        if self._courier is not None:
            from greenroom.courier.courier_threads import CourierThreads

            threads = CourierThreads(
                self._courier,
                scope,
                pool=router,
                bus=bus,
                clock=clock,
                rng=random.Random(draws),
            )
            threads.start()
            router.courier = threads

    def close(self) -> None:
        """The pool has not come to be. One that ends does so by itself."""
        if self._place is not None:
            self._place.leave()
        if self.recorder is not None and not self._met:  # else the router does so, at its end
            self.recorder.close()


def checked_address(status: str | os.PathLike[str]) -> StatusAddress:
    """The address that `status` says.

    Raises:
        TypeError, ValueError: it says none.
    """
    from greenroom.status.status_address import StatusAddress

    return StatusAddress.parsed(status)


def _courier(value: Courier | str) -> Courier:
    from greenroom.courier.named_courier import courier  # here alone: who has none need not load it

    return courier("courier", value)


def _shared_state(shared: SharedState | str) -> SharedState:
    from greenroom.shared.named_state import shared_state  # here alone: not every Python has SQLite

    return shared_state("shared", shared)

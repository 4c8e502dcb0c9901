"""`AgentPool`: the router with its supervisor, as an app starts it."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Iterable
from typing import Any, cast

from greenroom.actors.claims.claims import Claims
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.router.pool_router import PoolRouter
from greenroom.actors.runtime import pool_names
from greenroom.actors.runtime.clock import SYSTEM_CLOCK, Clock
from greenroom.actors.runtime.loop_factory import home_loop, loop_factory
from greenroom.actors.runtime.pool_actor import started
from greenroom.actors.strategies import RoutingStrategy, strategy_for, strategy_name
from greenroom.courier.courier_store import Courier
from greenroom.flight.flight_recorder import FlightRecorder, Record
from greenroom.kinds.pool_file import PoolFileError, read_pool_file
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import MemberExistsError, ResourceError
from greenroom.messages.events import PoolStarted, PoolStopped
from greenroom.messages.member import Member
from greenroom.messages.status import LoadBalanceStrategy, StrategyName
from greenroom.otel.activation import TelemetrySetting
from greenroom.pool.attachments import Attachments, check_along
from greenroom.pool.file_source import FileSource
from greenroom.shared.state_store import SharedState
from greenroom.supervisors.pool_supervisor import PoolSupervisor


class AgentPool(PoolRouter):
    """A supervised pool of agents. Make one with `AgentPool.start`."""

    def __init__(self, *, recorder: FlightRecorder | None = None, **router: Any) -> None:
        super().__init__(**router)
        self._recorder = recorder
        if recorder is not None:
            recorder.observer.watches(self.flow.table)
            self.ref.recorder = recorder

    def on_thread_end(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
        super().on_thread_end()

    @classmethod
    def start(  # type: ignore[override]
        cls,
        members: Iterable[Member] = (),
        *,
        strategy: LoadBalanceStrategy
        | StrategyName
        | RoutingStrategy = LoadBalanceStrategy.ADAPTIVE,
        config: PoolConfig | None = None,
        name: str = "pool",
        clock: Clock | None = None,
        rng: random.Random | None = None,
        status: str | os.PathLike[str] | None = None,
        telemetry: TelemetrySetting = "auto",
        record: Record | None = None,
        shared: SharedState | str | None = None,
        courier: Courier | str | None = None,
    ) -> PoolRef:
        """Start a pool.

        Args:
            members: the agents; more can be added later.
            strategy: a `LoadBalanceStrategy`, its value, or any object with a matching `pick`.
            config: the settings; None for the defaults.
            name: how the log and the errors call the pool. While there is one of that name, the
                next is numbered: `pool-2`, which its `PoolRef.name` says.
            clock: what to read the time from; None for the machine's.
            rng: the only source of chance; a seeded one makes choices and delays repeatable.
            status: where the pool is to be seen over HTTP, as `"127.0.0.1:9100"` or
                `"unix:/run/x.sock"`: see `docs/status.md`. Pools that name one address share it.
            telemetry: whether spans and metrics of OpenTelemetry are made: "auto": if the process
                has set a provider of them; False: none; True or a `Telemetry`: in any case. See
                `docs/telemetry.md`.
            record: where the flight of each request is recorded, for `PoolRef.explain` and the
                commands `explain` and `replay`: a path (of what is added to there already; `.gz`
                and `.zst` are compressed), or a function that gets each line; True: the last 10,000
                requests in memory alone; None or False: nowhere.
            shared: where this pool and those of the same name in other processes leave word for
                each other, a `SqliteState`, say, or its text: see `docs/several-processes.md`.
            courier: what keeps durable tells until this pool, or one of the same name in another
                process, has worked them off: a `JetStream`, say, or its text: see
                `docs/durable.md`. Nothing is connected by that: a pool starts without it, too.

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, named with its field;
                `record` is a file to which another pool of this process writes.
            OSError: `status` is an address where this process cannot listen, or the file of
                `record` cannot be opened.
            MemberExistsError: two members of the same name.
            ModuleNotFoundError: `event_loop="uvloop"` where there is no uvloop; telemetry without
                the API of OpenTelemetry; a recording in a `.zst` without the extra `record`.
            RuntimeError: `event_loop="running"` where no event loop runs.
            ResourceError: the machine has not the two threads that it takes.
        """
        check.name("name", name)
        config = of_type("config", PoolConfig() if config is None else config, PoolConfig)
        # For its refusal only: a uvloop that is missing is said here, not in the first async call.
        loop_factory(config.event_loop)
        loop = home_loop(config.event_loop)
        clock = of_type("clock", SYSTEM_CLOCK if clock is None else clock, Clock)
        rng = of_type("rng", random.Random() if rng is None else rng, random.Random)
        # Every check is made before the first thread is started:
        # what is refused leaves nothing behind.
        chosen = _checked_members(members)
        picker = strategy_for(strategy)
        attached = Attachments(
            status=status, telemetry=telemetry, record=record, shared=shared, courier=courier
        )
        bus, claims = pool_names.bus_of(name), Claims()
        scope, name = name, bus.pool
        names = tuple(member.name for member in chosen)
        # Each thread draws from one of its own.
        supervision = rng.getrandbits(64)
        try:
            rng = attached.open(
                bus,
                strategy=strategy_name(picker),
                config=config,
                clock=clock,
                rng=rng,
                supervision=supervision,
            )
        except BaseException:
            pool_names.give_back(bus)
            bus.close()
            raise
        # Before the actors: the first event of a member comes after that of its pool.
        bus.emit(
            PoolStarted(
                pool=name,
                members=names,
                strategy=strategy_name(picker),
                request_timeout_s=config.request_timeout_s,
                deadline_s=config.deadline_s,
                max_retries=config.max_retries,
            )
        )
        make = functools.partial(
            cls,
            name=name,
            strategy=picker,
            config=config,
            clock=clock,
            rng=rng,
            bus=bus,
            claims=claims,
            observers=attached.observers,
            recorder=attached.recorder,
            lend=attached.lend,
        )
        router: PoolRef | None = None
        try:
            router = started(make).ref  # one line: no signal handler finds a gap in it
            attached.meet(router, bus)
            # What comes before the supervisor's first word is asked about all the same.
            asked = (member.accepts for member in chosen)
            router._ask_first(tuple({id(x): x for x in asked if x is not None}.values()))
            PoolSupervisor.start(
                pool=name,
                router=router,
                claims=claims,
                config=config,
                clock=clock,
                rng=random.Random(supervision),
                bus=bus,
                members=chosen,
                loop=loop,
            )
            attached.begin(
                router, bus, scope=scope, clock=clock, rng=random.Random(supervision + 1)
            )
            return router
        except BaseException as error:  # half a pool is none: nothing of it is left
            attached.close()
            if router is None:
                bus.emit(PoolStopped(pool=name))
                pool_names.give_back(bus)
                bus.close()
            else:
                router.stop()
            # With the pool's name: an app may start many of them when its threads run out.
            if isinstance(error, ResourceError):
                raise ResourceError(f"pool {name!r}: {error}") from error.__cause__
            raise

    @classmethod
    def from_toml(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        status: str | os.PathLike[str] | None = None,
        telemetry: TelemetrySetting = "auto",
        record: Record | None = None,
    ) -> PoolRef:
        """Start the pool that stands in a file: see `docs/pool-files.md`. It can take that over
        anew while it runs, by `PoolRef.reload`.

        Args:
            path: of a TOML file, with a table `[pool]` and a table `[[members]]` for each member.
            clock: as for `start`; so are `rng`, `status`, `telemetry` and `record`.

        Raises:
            PoolFileError: the file cannot be read, or says something that does not hold; with the
                line, the key, the value and what is allowed.
            TypeError, ValueError, OSError: an argument, as for `start`.
            ModuleNotFoundError: a kind of member, or telemetry, needs an extra that is not
                installed.
            ResourceError: the machine has not the two threads that it takes.
        """
        # First: what is wrong with these is none of the file's faults.
        check_along(status=status, telemetry=telemetry, record=record)
        if clock is not None:
            of_type("clock", clock, Clock)
        if rng is not None:
            of_type("rng", rng, random.Random)
        file = read_pool_file(path)
        said = LoadBalanceStrategy.ADAPTIVE if file.strategy is None else file.strategy
        strategy = cast(StrategyName, said)  # be it none: `start` refuses it
        try:
            pool = cls.start(
                file.members,
                strategy=strategy,
                config=file.config,
                name=file.name,
                clock=clock,
                rng=rng,
                status=status,
                telemetry=telemetry,
                record=record,
                shared=file.shared,
                courier=file.courier,
            )
        except (TypeError, ValueError) as error:  # of the whole: two members of the same name, say
            raise PoolFileError(f"{os.fspath(path)}: {error}") from error
        pool.source = FileSource(file)
        return pool


def _checked_members(members: Iterable[Member]) -> tuple[Member, ...]:
    try:
        chosen = tuple(members)
    except TypeError:
        raise TypeError(
            f"members must be an iterable of Member, got {members!r} ({type(members).__name__})"
        ) from None
    names: set[str] = set()
    for member in chosen:
        of_type("members", member, Member)
        if member.name in names:
            raise MemberExistsError(
                f"members must have different names, got {member.name!r} more than once"
            )
        names.add(member.name)
    if chosen and not any(member.weight > 0 for member in chosen):
        raise ValueError("weight must be greater than 0 for at least one member, got 0 for all")
    return chosen


def of_type(field: str, value: Any, kind: type) -> Any:
    """The value, if it is one of that kind.

    Raises:
        TypeError: it is not.
    """
    if isinstance(value, type) or not isinstance(value, kind):  # a class is no Clock either
        raise TypeError(
            f"{field} must be a {kind.__name__}, got {value!r} ({type(value).__name__})"
        )
    return value

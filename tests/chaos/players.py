"""The agents: they do in each call what the request's plan says."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Callable
from typing import Any, NoReturn

from chaos.entry import TURNS, Call, CallEnd, Entry
from chaos.moves import KINDS, LASTING, Move
from chaos.stage import Stage
from greenroom import Apply, CallContext, PoolRef
from greenroom.testing import http_error

_NUMBERS = itertools.count(1)
HUGE_BYTES = 1 << 20


class Hostile:
    """A value that nobody may look at."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("a value was looked at")

    __bool__ = __eq__ = __hash__ = __iter__ = __len__ = _refuse
    __repr__ = __str__ = __lt__ = __call__ = _refuse


class HostileError(Exception):
    """An exception that nobody may look at."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("an exception was looked at")

    __str__ = __repr__ = __bool__ = _refuse
    status_code = response = code = headers = property(_refuse)


class Nameless(type):
    """A metaclass whose classes do not say what they are called."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise SystemExit(name)
        return super().__getattribute__(name)


class NamelessError(Exception, metaclass=Nameless):
    """An exception whose class cannot be looked at."""


class NamelessValue(metaclass=Nameless):
    """The same of a value."""


class UntouchableError(Exception):
    """An exception that raises at any look."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)


class Untouchable:
    """The same of a value."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


_ODD_WAITS: tuple[object, ...] = (2.0, 0, "soon", float("nan"), -5, "1e999")
_ODD_VALUES: tuple[Callable[[], object], ...] = (
    Hostile,
    lambda: None,
    lambda: ValueError("returned, not raised"),
    lambda: NotImplemented,
    lambda: Hostile,
    lambda: {"choices": []},
)
_ERRORS: dict[Move, Callable[[], BaseException]] = {
    Move.ERROR: lambda: ValueError("broken"),
    Move.HOSTILE_ERROR: HostileError,
    Move.TIMEOUT: lambda: TimeoutError("the agent's own"),
    Move.UNAVAILABLE: lambda: http_error(503),
    Move.AUTH: lambda: http_error(401),
    Move.QUOTA: lambda: http_error(402),
    Move.TOO_LARGE: lambda: http_error(413),
    Move.CALLER: lambda: http_error(400),
    Move.FORBIDDEN: lambda: http_error(403),
    Move.MISSING_KEY: lambda: KeyError("of the payload"),
    Move.BROKEN: lambda: http_error(500),
    Move.SIDE_EFFECTS: lambda: http_error(503),
    Move.EXIT: lambda: SystemExit(3),
    Move.INTERRUPT: KeyboardInterrupt,
    Move.GENERATOR_EXIT: GeneratorExit,
    Move.CANCELLED: lambda: asyncio.CancelledError("by itself"),
}


class Player:
    """What sync and async agents have in common."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self._stage = stage

    def _finish(self, entry: Entry, call: Call, context: CallContext | None) -> Any:
        """End the call as its move says, once it is time."""
        if call.move not in KINDS:
            value = call.ended(CallEnd.VALUE, value_of(entry, call))
            call.chunks.append(value)
            return value
        return self._fail(entry, call, context)

    def _fail(self, entry: Entry, call: Call, context: CallContext | None) -> NoReturn:
        if call.move is Move.SIDE_EFFECTS and context is not None:
            context.started_side_effects()
            call.side_effects = next(TURNS)
        error = _error_of(entry, call)
        call.ended(CallEnd.RAISED, error)
        raise error


class SyncPlayer(Player):
    """An agent that runs in a thread."""

    def run(self, entry: Entry, context: CallContext | None = None) -> Any:
        call = self._stage.begin(entry, self.name)
        try:
            if call.move is Move.AWAITABLE:
                return self._later(entry, call)
            self._linger(entry, call.move)
            return self._finish(entry, call, context)
        finally:
            self._stage.leave(entry, call)

    async def _later(self, entry: Entry, call: Call) -> Any:
        """What is returned instead of a value; until it is awaited the call counts as cut off."""
        await asyncio.sleep(0)
        entry.note(self._stage.clock.now(), f"its awaitable from {self.name} has a value")
        value = call.ended(CallEnd.VALUE, value_of(entry, call))
        call.chunks.append(value)
        return value

    def _linger(self, entry: Entry, move: Move) -> None:
        if move is Move.SLOW:
            self._stage.clock.block(entry.send.delay_s)
        elif move in LASTING:
            self._stage.gate().wait()

    def probe(self) -> Any:
        mode = self._stage.probe_mode
        if mode == "hang":
            self._stage.gate().wait()
        return _probed(self._stage, mode)


class AsyncPlayer(Player):
    """An agent that runs on an event loop."""

    async def arun(self, entry: Entry, context: CallContext | None = None) -> Any:
        call = self._stage.begin(entry, self.name)
        try:
            await self._linger(entry, call)
            return self._finish(entry, call, context)
        finally:
            self._stage.leave(entry, call)

    async def _linger(self, entry: Entry, call: Call) -> None:
        move = call.move
        if move is Move.SLOW:
            await self._stage.clock.sleep(entry.send.delay_s)
        elif move in LASTING:
            stubborn = move is Move.STUBBORN
            with self._stage.stubborn(entry, call) if stubborn else contextlib.nullcontext():
                await self._wait(stubborn)

    async def _wait(self, stubborn: bool) -> None:
        gate = self._stage.gate()
        try:
            await gate.passed()
        except asyncio.CancelledError:
            if not stubborn:
                raise
            await gate.passed()
        finally:
            self._stage.forget(gate)

    async def probe(self) -> Any:
        mode = self._stage.probe_mode
        if mode == "hang":
            await self._wait(stubborn=False)
        return _probed(self._stage, mode)


def perform(entry: Entry, agent: Any) -> Any:
    """The function of an `Apply`: what the agent would do with the entry as a payload."""
    if isinstance(agent, PoolRef):
        inside = Apply(
            functools.partial(perform, entry),
            idempotent=entry.send.idempotent,
            request_id=f"{entry.id}#{next(_NUMBERS)}",
        )
        return agent.stream(inside) if entry.send.is_stream else agent.ask(inside).value
    names = ("astream", "stream") if entry.send.is_stream else ()
    for name in names:
        stream = getattr(agent, name, None)
        if stream is not None:
            return stream(entry)
    run = getattr(agent, "arun", None) or getattr(agent, "run", None) or agent
    return run(entry)


def value_of(entry: Entry, call: Call) -> object:
    if call.move is Move.HUGE:
        return bytes(HUGE_BYTES)
    if call.move is Move.UNTOUCHABLE:
        return (Untouchable, NamelessValue)[number_of(entry) % 2]()
    if call.move is Move.GARBAGE:
        return _ODD_VALUES[number_of(entry) % len(_ODD_VALUES)]()
    return entry.id, len(entry.calls)


def _error_of(entry: Entry, call: Call) -> BaseException:
    if call.move is Move.THROTTLED:
        return http_error(429, retry_after_s=call.wait_s)
    if call.move is Move.UNTOUCHABLE_ERROR:
        return (UntouchableError, NamelessError)[number_of(entry) % 2]()
    if call.move is not Move.RATE_LIMIT:
        return _ERRORS[call.move]()
    error = http_error(429)
    error.headers["retry-after"] = _ODD_WAITS[number_of(entry) % len(_ODD_WAITS)]  # type: ignore[assignment]
    return error


def number_of(entry: Entry) -> int:
    return int(entry.id.rpartition("-")[2])


def _probed(stage: Stage, mode: str) -> bool:
    stage.count(f"probe: {mode}")
    if mode == "raise":
        raise ConnectionError("the probe found nobody")
    return mode != "return False"

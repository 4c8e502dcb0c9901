"""What all agents share: the clock, the gates of hanging calls, and how things behave just now."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from chaos.entry import TURNS, Call, CallEnd, Entry
from chaos.machine import Machine
from chaos.moves import Move
from chaos.steps import move_of
from greenroom.testing import FakeClock

_name_of = type.__dict__["__name__"].__get__
"""The name of a class, whatever its metaclass says."""
FACTORY_MODES = ("work", "work", "work", "fail", "return None", "exit")
PROBE_MODES = ("work", "work", "raise", "return False", "hang")


class JumpingClock(FakeClock):
    """A fake clock whose wall clock can be set, forwards and back."""

    def __init__(self) -> None:
        super().__init__()
        self._wall_offset = 1_700_000_000.0

    def wall(self) -> float:
        return self.now() + self._wall_offset

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock that much forwards, or back."""
        self._wall_offset += seconds


class Gate:
    """What a hanging call waits at, in a thread or in a coroutine."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[Callable[[], None]] = []

    def open(self) -> None:
        """Let whoever waits go on."""
        with self._lock:
            self._opened.set()
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def wait(self) -> None:
        self._opened.wait()

    async def passed(self) -> None:
        """Wait in a coroutine."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed, and with it who waited
                loop.call_soon_threadsafe(resolve)

        with self._lock:
            if self._opened.is_set():
                return
            self._waiters.append(wake)
        await future


class Window:
    """A provider's limit: so many calls of each member in each second of the clock.

    Attributes:
        too_early: members that were called while they had asked to be left alone.
    """

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._taken: Counter[tuple[str, int]] = Counter()
        self._back: dict[str, float] = {}
        self.too_early: Counter[str] = Counter()

    def wait_s(self, member: str, now: float) -> float:
        """How long the member wants to be left alone that is called now; 0 if it answers."""
        if now < self._back.get(member, 0.0) - 1e-6:
            self.too_early[member] += 1
        second = int(now)
        self._taken[member, second] += 1
        if self._taken[member, second] <= self._calls:
            return 0.0
        self._back[member] = second + 1.0
        return second + 1.0 - now

    def first_back_s(self, members: Iterable[str], now: float) -> float:
        """How long until the first of them is back; 0 if one never was away."""
        return max(0.0, min(self._back.get(member, 0.0) for member in members) - now)


class Stage:
    """Where the agents of one pool perform.

    Attributes:
        slots: how many calls each member takes at a time, as long as somebody counts them.
        limit_s: how long after its request was sent a call is in time, whatever it does.
        crowded: how often a member was given one more than that.
    """

    def __init__(self, clock: JumpingClock) -> None:
        self.clock = clock
        self.performed: Counter[str] = Counter()
        self.machine = Machine(self.count)
        self.factory_mode = "work"
        self.probe_mode = "work"
        self.closes_raise = True
        self.app_loop: asyncio.AbstractEventLoop | None = None
        self.window: Window | None = None
        self._changed = threading.Condition()
        self._gates: set[Gate] = set()
        self._running = 0
        self._holding = 0
        self._unclosed: dict[object, tuple[object, bool]] = {}
        self._stays: Counter[str] = Counter()
        self.misplaced: Counter[str] = Counter()
        self._stubborn: dict[Call, tuple[Entry, asyncio.Task[Any]]] = {}
        self.slots: dict[str, int] = {}
        self.limit_s = 0.0
        self._held: dict[Call, Entry] = {}
        self.crowded: Counter[str] = Counter()

    # -- calls

    def begin(self, entry: Entry, member: str) -> Call:
        """A call of an agent begins."""
        place = _place()
        with self._changed:
            call = Call(member, entry.next_move(), began=next(TURNS))
            if isinstance(place, asyncio.Task) and place.get_loop() is self.app_loop:
                # One that begins there while the app winds the loop up is cancelled by nobody.
                self._stubborn[call] = entry, place
            call.permitted = entry.permitted.get(member, call.began)
            if self.window is not None:
                call.wait_s = self.window.wait_s(member, self.clock.now())
                call.move = Move.THROTTLED if call.wait_s else call.move
            entry.calls.append(call)
            self._look_for_room(entry, call)
            self._running += 1
            self._holding += call.move is Move.HOLD
            self.performed[move_of(entry.send, call.move)] += 1
            self._changed.notify_all()
        entry.note(self.clock.now(), f"call {len(entry.calls)} begins at {member}:", call.move)
        return call

    def leave(self, entry: Entry, call: Call) -> None:
        """The call has ended, however it did; what it does after that is its own affair."""
        with self._changed:
            if call.over:
                return
            call.over = next(TURNS)
            self._stubborn.pop(call, None)
            self._held.pop(call, None)
            if call.end is CallEnd.RUNNING:
                call.end = CallEnd.CUT
            kind = _name_of(type(call.result))
            entry.note(self.clock.now(), f"call at {call.member} {call.end}", kind)
            self._running -= 1
            self._holding -= call.move is Move.HOLD
            self._changed.notify_all()

    def _look_for_room(self, entry: Entry, call: Call) -> None:
        """Count the calls that hold a slot of the member for certain, this one among them."""
        if call.member in self.slots:
            self._held[call] = entry
            held = sum(
                each.member == call.member and self._holds(each, of)
                for each, of in self._held.items()
            )
            self.crowded[call.member] += held > self.slots[call.member]

    def _holds(self, call: Call, entry: Entry) -> bool:
        """Whether the pool cannot have given the call up, with its thread: its request is not over,
        nor due, and no other call of it has run beside.
        """
        age_s = self.clock.now() - entry.sent_at
        due = entry.end is not None or entry.cancel_asked or age_s >= self.limit_s
        due = due or age_s >= (entry.send.timeout_s or self.limit_s)
        others = (each for each in entry.calls if each is not call)
        return not due and all(each.over and each.over < call.began for each in others)

    def judge_room(self) -> Iterator[str]:
        """Members that were given more calls at a time than they take."""
        for name, times in (+self.crowded).items():
            yield f"{name} was given more than {self.slots[name]} calls at a time, {times} times"
        self.slots, self.crowded = {}, Counter()

    @contextlib.contextmanager
    def stubborn(self, entry: Entry, call: Call) -> Iterator[None]:
        """In a coroutine: the call will not end by its cancellation."""
        task = asyncio.current_task()
        assert task is not None
        with self._changed:
            self._stubborn[call] = entry, task
        try:
            yield
        finally:
            with self._changed:
                self._stubborn.pop(call, None)

    def _leave_behind(self) -> None:
        """A loop that ends does not wait longer than its grace for who swallows a cancellation, nor
        the app's for what it has not cancelled. Nothing of a closed loop ever goes on: such a call
        is over, though its coroutine is not.
        """
        with self._changed:
            left: list[tuple[Call, Entry, Any]] = [
                (call, entry, task)
                for call, (entry, task) in self._stubborn.items()
                if task.get_loop().is_closed()
            ]
            for call, _, _ in left:
                del self._stubborn[call]
        for call, entry, task in left:
            task._log_destroy_pending = False  # as asyncio.gather does: that it is pending is known
            self.count("call left behind by its loop")
            self.leave(entry, call)

    def opened(self) -> object:
        """Something has been handed out here that must be closed; what names it from now on."""
        stream, place = object(), _place()
        with self._changed:
            self._unclosed[stream] = place, False
        return stream

    def read(self, stream: object) -> None:
        """It is read, here, as long as it has not been closed."""
        place = _place()
        with self._changed:
            if stream in self._unclosed:
                self._unclosed[stream] = place, True

    def closed(self, stream: object) -> None:
        """It has been closed; once is enough."""
        with self._changed:
            self._unclosed.pop(stream, None)
            self._changed.notify_all()

    def wait_until_all_is_closed(self, seconds: float) -> bool:
        """Whether every stream has been closed, within that many real seconds, or left behind."""
        with self._changed:
            for stream, (place, read) in list(self._unclosed.items()):
                if _is_left_behind(place, read):
                    del self._unclosed[stream]
                    self.performed["stream left behind by its loop"] += 1
            return self._changed.wait_for(lambda: not self._unclosed, seconds)

    @contextlib.contextmanager
    def stay(self, member: str) -> Iterator[None]:
        """An agent is entered, and is to be left where it was."""
        place = _place()
        self.count("agent entered")
        with self._changed:
            self._stays[member] += 1
        try:
            yield
        finally:
            with self._changed:
                self._stays[member] -= 1
                self.misplaced[member] += _place() is not place
                self._changed.notify_all()

    def judge_stays(self, seconds: float) -> Iterator[str]:
        """What was entered and not left, within that many real seconds, or left elsewhere."""
        with self._changed:
            self._changed.wait_for(lambda: not +self._stays, seconds)
            for name, stays in (+self._stays).items():
                yield f"{name}: {stays} agents were entered and never left"
            for name, times in (+self.misplaced).items():
                yield f"{name}: {times} agents were left in another task or thread"

    def count(self, what: str) -> None:
        """Something else has been done to the pool."""
        with self._changed:
            self.performed[what] += 1

    # -- gates

    def gate(self) -> Gate:
        """A gate that the driver will open one day."""
        gate = Gate()
        with self._changed:
            self._gates.add(gate)
        return gate

    def forget(self, gate: Gate) -> None:
        """Whoever waited at it does so no more."""
        with self._changed:
            self._gates.discard(gate)

    def let_go(self, at_most: int | None = None) -> None:
        """Open the gates, or some of them."""
        with self._changed:
            gates = list(self._gates)[:at_most]
            self._gates.difference_update(gates)
        for gate in gates:
            gate.open()

    # -- rest

    def behave(self) -> None:
        """From here on factories, probes and close hooks do what they should."""
        self.factory_mode = self.probe_mode = "work"
        self.machine.mend()

    @property
    def running(self) -> int:
        """Calls that have not ended, those included that the pool has given up."""
        with self._changed:
            return self._running

    def wait_until_nothing_runs(self, seconds: float) -> bool:
        """Whether every call has ended, given up or not, within that many real seconds."""
        self._leave_behind()
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, seconds)

    def wait_until_held(self, calls: int, seconds: float) -> int:
        """How many calls are held, once they are that many or the real seconds are over."""
        with self._changed:
            self._changed.wait_for(lambda: self._holding >= calls, seconds)
            return self._holding


def _place() -> object:
    """The running task, or the thread where there is none."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return threading.current_thread()


def _is_left_behind(place: object, read: bool) -> bool:
    """Whether nothing can close any more what was made, or `read`, in that task: its loop has been
    closed by the app under it, as where it has begun while that wound up.
    """
    if not isinstance(place, asyncio.Task) or not place.get_loop().is_closed():
        return False
    return not (read and place.done())

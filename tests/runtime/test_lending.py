"""Mailboxes that are lent out: who hands a message over handles it, while the owner is idle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import Member, PoolRef, Request
from greenroom.actors.request.request_flow import RequestFlow
from greenroom.actors.runtime.event_bus import observe
from greenroom.actors.runtime.mailbox import _AWAKE, Envelope, Mailbox, Tick
from greenroom.actors.runtime.pool_actor import PoolActor, hand
from greenroom.actors.strategies import Candidate
from greenroom.messages.events import AttemptFailed, BreakerOpened, Event, Failover
from greenroom.testing import FakeClock, ScriptedAgent


class Lent:
    """A mailbox whose owner, which sleeps at first, is the test; and what has been handled by those
    who handed it over.
    """

    def __init__(self, *, lent: bool = True) -> None:
        self.clock = FakeClock()
        self.box = Mailbox()
        self.box.follow(self.clock)
        if lent:
            self.box.lend(self.handled_here, self.returned)
        self.handled: list[Any] = []
        self.then: Callable[[Any], None] = lambda _: None
        self.sleeps()

    def handled_here(self, envelope: Envelope) -> None:
        self.handled.append(envelope.message)
        self.then(envelope.message)

    def returned(self, envelope: Envelope, error: BaseException) -> None:
        raise error

    def sleeps(self) -> None:
        """The owner has found nothing to do."""
        assert self.box._falls_asleep()
        self.box._turn.release()

    def is_woken(self) -> bool:
        return not self.box._bell.empty()

    def wakes(self) -> None:
        """What ends the owner's sleep."""
        assert self.is_woken()
        self.box._turn.acquire()
        self.box._owner = _AWAKE

    def get(self) -> Any:
        message: Any = self.box.get().message
        return message

    def owned(self) -> list[Any]:
        """What there is left for the owner."""
        got = []
        while not self.box.empty() or self.box._aside:
            got.append(self.get())
        return got


def test_an_idle_owner_has_its_sender_handle_the_message() -> None:
    """It is not woken, and finds nothing."""
    lent = Lent()
    lent.box.hand("a")
    assert lent.handled == ["a"]
    assert not lent.is_woken()
    assert lent.owned() == []


def test_what_lies_aside_is_handled_first_by_who_hands_something_over() -> None:
    """A slot is free by the time what its asker sends next is read; nobody is woken for either."""
    lent = Lent()
    assert not lent.box.leave("first")
    lent.box.hand("second")
    assert lent.handled == ["first", "second"]
    assert not lent.is_woken()
    assert lent.owned() == []


def test_what_was_put_before_comes_first() -> None:
    """What is handed over while something is unread joins it, until all of it has been handled."""
    lent = Lent()
    lent.box.put(Envelope("first"))
    lent.box.hand("second")
    lent.wakes()
    assert lent.get() == "first"
    lent.box.hand("third")  # the owner is still at the first one
    assert (lent.get(), lent.get()) == ("second", "third")
    assert lent.handled == []


def test_one_message_is_handled_at_a_time() -> None:
    """Whoever comes while another handles one leaves it to the owner."""
    lent = Lent()
    with lent.box._turn:
        lent.box.hand("a")
    lent.wakes()
    assert (lent.handled, lent.owned()) == ([], ["a"])


def test_a_timer_that_is_due_comes_first() -> None:
    """As with whatever is put: a deadline is seen before what has come after it."""
    lent = Lent()
    lent.box.alarm = lent.clock.now() + 1.0
    lent.box.hand("in time")
    lent.clock.advance(1.0)
    lent.box.hand("late")
    assert lent.handled == ["in time"]
    lent.wakes()
    assert isinstance(lent.get(), Tick)
    lent.box.hand("later")  # the owner is still at its timers
    assert (lent.get(), lent.get()) == ("late", "later")


def test_an_owner_that_is_at_its_timers_is_not_idle() -> None:
    """Its alarm is over by then, but what it has set off is not done."""
    lent = Lent()
    lent.box.alarm = lent.clock.now()
    lent.box.put(Envelope("x"))
    lent.wakes()
    assert isinstance(lent.get(), Tick)
    assert lent.get() == "x"
    lent.box.alarm = lent.clock.now()
    assert isinstance(lent.get(), Tick)
    lent.box.hand("behind")
    assert (lent.handled, lent.owned()) == ([], ["behind"])


def test_a_new_timer_wakes_the_owner() -> None:
    """It sleeps until the alarm that it knows of, and would oversleep."""
    lent = Lent()
    lent.then = lambda _: setattr(lent.box, "alarm", lent.clock.now() + 5.0)
    lent.box.hand("sets it")
    assert lent.is_woken()


def test_what_is_put_aside_wakes_an_owner_that_a_handed_message_has_put_in_a_hurry() -> None:
    """Whether it is in a hurry is asked again, as it would be before it goes to sleep."""
    lent = Lent()
    hurry: list[Any] = []
    lent.box.hurried = lambda: bool(hurry)
    lent.box.hand("nothing yet")
    assert not lent.box.leave("lies there")
    lent.box.serve()
    lent.then = hurry.append
    lent.box.hand("now it is")
    assert lent.box.leave("is waited for")


def test_what_a_handed_message_sets_off_comes_behind_it() -> None:
    """A message that comes back to the actor from its own handling is no message within it."""
    lent = Lent()
    seen: list[Any] = []

    def then(message: Any) -> None:
        if message == "first":
            lent.box.hand("second")
            seen.append(list(lent.handled))

    lent.then = then
    lent.box.hand("first")
    assert (seen, lent.handled) == ([["first"]], ["first", "second"])


def test_what_lies_aside_is_served_by_who_left_it_there() -> None:
    """All of it, in order; the owner, which wants it, is not woken."""
    lent = Lent()
    lent.box.hurried = lambda: True
    lent.box.hand("puts it in a hurry")
    assert lent.box.leave("a")
    assert lent.box.leave("b")
    lent.box.serve()
    assert lent.handled[1:] == ["a", "b"]
    assert not lent.is_woken()
    assert lent.owned() == []


@pytest.mark.parametrize("why", ["more to read", "its turn", "a timer", "not lent"])
def test_what_cannot_be_served_wakes_the_owner(why: str) -> None:
    """It has it all then, what lies aside first."""
    lent = Lent(lent=why != "not lent")
    if why == "more to read":
        lent.box.put(Envelope("told"))
    elif why == "its turn":
        lent.box._turn.acquire()
    elif why == "a timer":
        lent.box.alarm = lent.clock.now()
    lent.box.leave("aside")
    lent.box.serve()
    assert lent.handled == []
    assert lent.is_woken()
    assert lent.box._aside[0] == "aside"


def test_serving_may_leave_the_owner_more_to_do() -> None:
    """Another timer, or something that lies aside again: it is woken then."""
    lent = Lent()
    lent.then = lambda _: setattr(lent.box, "alarm", lent.clock.now() + 5.0)
    lent.box.leave("sets a timer")
    lent.box.serve()
    assert lent.handled == ["sets a timer"]
    assert lent.is_woken()


def test_who_looks_for_a_hurry_and_raises_leaves_no_timer_to_be_overslept() -> None:
    """The owner is woken all the same: the message has been handled, whatever came then."""
    lent = Lent()
    lent.then = lambda _: setattr(lent.box, "alarm", lent.clock.now() + 5.0)
    lent.box.hurried = lambda: 1 / 0 > 0
    with pytest.raises(ZeroDivisionError):
        lent.box.hand("sets a timer")
    assert lent.handled == ["sets a timer"]
    assert lent.is_woken()


def test_nothing_is_lent_before_the_start_and_after_the_end() -> None:
    """Then the owner, whose turn it is, has all of it."""
    lent = Lent(lent=False)
    lent.box.hand("early")
    lent.wakes()
    assert lent.owned() == ["early"]
    lent.box.lend(lent.handled_here, lent.returned)
    lent.box.unfollow()
    lent.box.hand("late")
    assert (lent.handled, lent.get()) == ([], "late")


# -- the actor


class Number:
    """A message."""

    def __init__(self, sender: int, number: int) -> None:
        self.sender, self.number = sender, number


class Counter(PoolActor):
    """Notes what it is told, and whether two threads are ever at it."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.seen: list[tuple[int, int]] = []
        self.inside = 0
        self.overlaps = 0
        self.handlers[Number] = self._on_number
        self.handlers[str] = lambda _: self

    def on_start(self) -> None:
        self.lend()

    def _on_number(self, message: Number) -> None:
        self.inside += 1
        self.overlaps += self.inside > 1
        if message.number < 0:
            raise SystemExit("no sender is hit by this")
        self.seen.append((message.sender, message.number))
        self.inside -= 1


def in_threads(send: Callable[[int], None], senders: range) -> None:
    """All of them at once, each in a thread of its own, until each has sent everything."""
    threads = [threading.Thread(target=send, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)


def test_however_it_comes_each_message_is_handled_once_and_in_its_senders_order() -> None:
    """Told, asked or handed over by several threads at once."""
    ref: Any = Counter.start()
    senders, numbers = range(4), range(600)

    def send(sender: int) -> None:
        for number in numbers:
            message = Number(sender, number)
            way = (sender + number) % 3
            if way == 0:
                ref.tell(message)
            else:
                hand(ref, message)

    in_threads(send, senders)
    counter = ref.ask("who are you?", timeout=WAIT_S)
    ref.stop()
    assert counter.overlaps == 0
    for sender in senders:
        assert [number for who, number in counter.seen if who == sender] == list(numbers)


def test_what_is_left_aside_is_handled_once_whoever_serves() -> None:
    """Several threads leave and serve while others tell, and the owner is woken in between."""
    ref: Any = Counter.start()
    ref.actor_inbox.hurried = lambda: True
    senders, numbers = range(4), range(600)

    def send(sender: int) -> None:
        for number in numbers:
            message = Number(sender, number)
            if (sender + number) % 3 == 0:
                ref.tell(message)
            elif ref.actor_inbox.leave(message):
                ref.actor_inbox.serve()

    in_threads(send, senders)
    counter = ref.ask("who are you?", timeout=WAIT_S)
    ref.stop()
    assert counter.overlaps == 0
    assert sorted(counter.seen) == [(sender, number) for sender in senders for number in numbers]


def test_a_handler_that_raises_hits_no_sender() -> None:
    """Even a SystemExit is logged, and the next message is handled."""
    ref: Any = Counter.start()
    for number in (-1, 1):
        hand(ref, Number(0, number))
    counter = ref.ask("who are you?", timeout=WAIT_S)
    ref.stop()
    assert counter.seen == [(0, 1)]


def test_an_actor_that_has_ended_takes_nothing() -> None:
    """What is handed to it is let go, as what is told."""
    ref: Any = Counter.start()
    counter = ref.ask("who are you?", timeout=WAIT_S)
    ref.stop()
    hand(ref, Number(0, 1))
    assert counter.seen == []


def test_news_are_announced_by_the_supervisor_itself() -> None:
    """Not by the thread that reported the failure: who hears of it may be slow."""
    announced: list[str] = []
    opened = threading.Event()

    def note(event: Event) -> None:
        if isinstance(event, BreakerOpened):
            announced.append(threading.current_thread().name)
            opened.set()

    end = observe(note)
    try:
        agent = ScriptedAgent.failing(1, ConnectionError("down"))
        with pool_of(Member("a", agent), max_retries=0, circuit_failure_threshold=1) as pool:
            with pytest.raises(Exception, match="no member could answer"):
                pool.execute("x", timeout=WAIT_S)
            assert opened.wait(WAIT_S)
        assert announced == ["greenroom-PoolSupervisor"]
    finally:
        end()


def until_asleep(pool: PoolRef) -> None:
    """Wait until the router's thread has nothing to do, and has looked at all that rang."""
    router: Any = pool._actor_weakref()
    box = router.mailbox
    while True:
        with box._turn:  # its own, but while it sleeps
            if box._owner != _AWAKE and box._bell.empty() and box.empty():
                return


def test_a_failed_request_goes_on_from_the_thread_where_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The router is not told of it: it is idle, so what it would do is done without waking it."""
    asleep = threading.Event()
    told: list[str] = []
    original = Mailbox.put

    def put(box: Mailbox, envelope: Any) -> None:
        told.append(type(envelope.message).__name__)
        original(box, envelope)

    def fails(payload: Any) -> Any:
        if payload == "first":
            return payload
        assert asleep.wait(WAIT_S)
        raise ConnectionError("down")

    members = Member("a", fails, priority=1), Member("b", ScriptedAgent(["b's"]), priority=2)
    # No timer of the router's is ever due.
    with pool_of(*members, clock=FakeClock(), strategy="priority") as pool:
        pool.execute("first", timeout=WAIT_S)  # sets them, for which the router is woken
        pool.stats()
        until_asleep(pool)
        monkeypatch.setattr(Mailbox, "put", put)
        future = pool.ask(Request("x"), block=False)
        until_asleep(pool)
        asleep.set()
        assert future.get(timeout=WAIT_S).value == "b's"
    assert "Execute" in told
    assert "Failed" not in told


def test_a_request_that_waits_is_given_its_slot_by_whom_that_was_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the worker's thread, so that neither of them has to wait for the router to wake up."""
    asleep, handled_in = threading.Event(), list[str]()
    answered = RequestFlow.answered

    def noted(flow: RequestFlow, message: Any) -> None:
        handled_in.append(threading.current_thread().name)
        answered(flow, message)

    monkeypatch.setattr(RequestFlow, "answered", noted)

    def agent(payload: Any) -> Any:
        assert payload == "first" or asleep.wait(WAIT_S)
        return payload

    with pool_of(Member("a", agent), clock=FakeClock()) as pool:
        pool.execute("first", timeout=WAIT_S)  # sets the timers, for which the router is woken
        pool.stats()
        until_asleep(pool)
        handled_in.clear()
        futures = [pool.ask(Request(number), block=False) for number in range(2)]
        until_asleep(pool)
        asleep.set()
        assert [future.get(timeout=WAIT_S).value for future in futures] == [0, 1]
        pool.stats()
    assert handled_in[0] == f"greenroom-{pool.name}-a-1"


@pytest.mark.parametrize("own", ["strategy", "observer"])
def test_what_may_be_slow_runs_in_the_routers_own_thread(own: str) -> None:
    """A strategy of the app's own, and whoever reads events: no agent is held up by them."""
    seen: set[str] = set()

    def note(*_: Any) -> None:
        seen.add(threading.current_thread().name)

    class Own:
        def pick(self, candidates: Sequence[Candidate], *_: Any) -> Candidate:
            note()
            return candidates[0]

    end = observe(lambda event: note() if isinstance(event, AttemptFailed | Failover) else None)
    if own == "strategy":
        end()
    try:
        fails = ScriptedAgent.failing(9, ConnectionError("down"))
        members = Member("a", fails), Member("b", ScriptedAgent(["b's"] * 9))
        strategy = Own() if own == "strategy" else "priority"
        with pool_of(*members, strategy=strategy, circuit_failure_threshold=99) as pool:
            for _ in range(9):
                assert pool.execute("x", timeout=WAIT_S) == "b's"
    finally:
        end()
    assert seen == {"greenroom-AgentPool"}

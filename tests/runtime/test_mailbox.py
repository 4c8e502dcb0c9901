"""The mailbox with its alarm, the timers behind it, and the queue of waiting requests."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from typing import Any

import pytest

from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.job import Job
from greenroom.actors.request.waiting_queue import WaitingQueue
from greenroom.actors.runtime.alarms import Alarms
from greenroom.actors.runtime.mailbox import Envelope, Mailbox, Tick
from greenroom.messages.config import PoolConfig
from greenroom.messages.requests import Request
from greenroom.testing import FakeClock

WAIT_S = 10.0
POLICY = RetryPolicy.from_config(PoolConfig(), max_retries=0)


class Alarm:
    """As much of a mailbox as timers need."""

    alarm: float | None = None


def mailbox(clock: FakeClock) -> Mailbox:
    box = Mailbox()
    box.follow(clock)
    return box


def alarm_of(box: Mailbox | Alarm) -> float | None:
    return box.alarm


def timers() -> tuple[Alarms, Alarm]:
    box = Alarm()
    return Alarms(box), box


# -- the mailbox


def test_letters_come_out_in_the_order_in_which_they_were_put() -> None:
    """A mailbox is first in, first out, and remembers whom the letter at hand is to be answered."""
    box = Mailbox()
    for number in range(5):
        box.put(Envelope(number, reply_to=f"asker {number}"))
    taken = [(box.get().message, box.reply_to) for _ in range(5)]
    assert taken == [(number, f"asker {number}") for number in range(5)]
    assert box.empty()


def test_a_tell_has_nobody_to_reply_to() -> None:
    """After an ask, a tell clears `reply_to`: its failure is nobody's answer."""
    box = Mailbox()
    box.put(Envelope("ask", reply_to="asker"))
    box.put(Envelope("tell"))
    box.get()
    box.get()
    assert box.reply_to is None


def test_an_alarm_that_is_due_is_delivered_before_a_flood_of_messages() -> None:
    """However many letters wait, the tick comes first, and once."""
    clock = FakeClock()
    box = mailbox(clock)
    box.alarm = clock.now() + 1.0
    for number in range(10_000):
        box.put(Envelope(number))
    assert box.get().message == 0
    clock.advance(1.0)
    assert isinstance(box.get().message, Tick)
    assert [box.reply_to, alarm_of(box)] == [None, None]
    assert box.get().message == 1


def test_an_alarm_that_is_not_due_holds_no_message_back() -> None:
    """Before its time an alarm delivers nothing, at its time exactly it does."""
    clock = FakeClock()
    box = mailbox(clock)
    box.alarm = clock.now() + 1.0
    clock.advance(0.999)
    box.put(Envelope("now"))
    assert box.get().message == "now"
    clock.advance(0.001)
    assert isinstance(box.get().message, Tick)


def test_a_clock_that_moves_wakes_an_owner_that_waits() -> None:
    """The owner blocks in `get`; the advance alone brings the tick."""
    clock = FakeClock()
    box = mailbox(clock)
    box.alarm = clock.now() + 5.0
    got: list[Any] = []
    owner = threading.Thread(target=lambda: got.append(box.get().message), daemon=True)
    owner.start()
    clock.advance(4.0)
    clock.advance(1.0)
    owner.join(WAIT_S)
    assert [type(message) for message in got] == [Tick]


def test_with_the_machines_clock_the_alarm_goes_off_by_itself() -> None:
    """No message and no wake: the wait itself ends at the alarm's time."""
    box = Mailbox()
    box.alarm = 0.0  # long ago on the monotonic clock
    assert isinstance(box.get().message, Tick)


def test_an_unfollowed_clock_no_longer_wakes_the_mailbox() -> None:
    """After `unfollow` the clock has forgotten the mailbox."""
    clock = FakeClock()
    box = mailbox(clock)
    box.unfollow()
    clock.advance(1.0)
    assert box.empty()


def test_a_mailbox_that_has_ended_hands_out_what_is_left_and_never_waits() -> None:
    """Pykka's teardown reads until the mailbox is empty: a wake left in it must not block that."""
    clock = FakeClock()
    box = mailbox(clock)
    box.alarm = clock.now() + 1.0
    clock.advance(0.5)
    box.put(Envelope("ask", reply_to="asker"))
    clock.advance(0.4)
    box.unfollow()
    askers: list[Any] = []

    def teardown() -> None:
        while not box.empty():
            askers.append(box.get().reply_to)

    reader = threading.Thread(target=teardown, daemon=True)
    reader.start()
    reader.join(WAIT_S)
    assert not reader.is_alive()
    assert [asker for asker in askers if asker is not None] == ["asker"]


def test_many_threads_put_and_every_letter_arrives_once_in_each_threads_order() -> None:
    """What one sender puts stays in order; nothing is lost and nothing doubled."""
    box = Mailbox()

    def send(sender: int) -> None:
        for number in range(500):
            box.put(Envelope((sender, number)))

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in senders:
        thread.start()
    received = [box.get().message for _ in range(2000)]
    for thread in senders:
        thread.join(WAIT_S)
    for sender in range(4):
        assert [n for who, n in received if who == sender] == list(range(500))


# -- alarms


def test_alarms_run_in_the_order_of_their_times_and_equal_ones_in_the_order_of_setting() -> None:
    """Whatever the order in which they were set."""
    alarms, _ = timers()
    ran: list[str] = []
    for when, name in ((3.0, "d"), (1.0, "a"), (2.0, "c"), (1.0, "b")):
        alarms.at(when, lambda name=name: ran.append(name))  # type: ignore[misc]
    alarms.run_due(2.0)
    assert ran == ["a", "b", "c"]
    assert len(alarms) == 1


def test_the_mailbox_alarm_is_always_the_earliest_timer() -> None:
    """It moves forward with an earlier timer, and on to the next one when they have run."""
    alarms, box = timers()
    seen = []
    for when in (5.0, 7.0, 2.0):
        alarms.at(when, lambda: None)
        seen.append(box.alarm)
    assert seen == [5.0, 5.0, 2.0]
    alarms.run_due(5.0)
    assert box.alarm == 7.0
    alarms.run_due(7.0)
    assert box.alarm is None


def test_a_cancelled_alarm_never_runs_and_lets_go_of_its_action() -> None:
    """Also when it is cancelled twice, by another alarm, or after it has run."""
    alarms, _ = timers()
    ran: list[str] = []
    doomed = alarms.at(2.0, lambda: ran.append("doomed"))
    first = alarms.at(1.0, doomed.cancel)
    alarms.run_due(3.0)
    doomed.cancel()
    first.cancel()
    assert ran == []
    assert doomed.action is None
    assert len(alarms) == 0


def test_an_alarm_may_set_another_one_for_now() -> None:
    """What an action sets for a time that has come runs in the same round."""
    alarms, box = timers()
    ran: list[str] = []

    def set_another() -> None:
        alarms.at(1.0, lambda: ran.append("second"))

    alarms.at(1.0, set_another)
    alarms.run_due(1.0)
    assert ran == ["second"]
    assert box.alarm is None


def test_an_action_that_raises_does_not_hold_back_the_others() -> None:
    """The error goes to the owner, and the mailbox's alarm still stands for what has not run. What
    has raised is tried once more, behind the others of its time.
    """
    alarms, box = timers()
    ran: list[str] = []

    def fail() -> None:
        raise RuntimeError("broken")

    alarms.at(1.0, fail)
    alarms.at(1.0, lambda: ran.append("same time"))
    alarms.at(2.0, lambda: ran.append("later"))
    box.alarm = None  # as a mailbox does when it delivers the tick
    with pytest.raises(RuntimeError, match="broken"):
        alarms.run_due(1.0)
    assert (ran, alarm_of(box)) == ([], 1.0)
    with pytest.raises(RuntimeError, match="broken"):
        alarms.run_due(1.0)
    assert (ran, alarm_of(box)) == (["same time"], 2.0)
    assert len(alarms) == 1


def test_cancelled_alarms_are_swept_out_when_they_are_the_majority() -> None:
    """The heap never holds more than twice the live timers (and a fixed few)."""
    alarms, box = timers()
    live = [alarms.at(1000.0 + number, lambda: None) for number in range(100)]
    for number in range(10_000):
        alarms.at(500.0 + number, lambda: None).cancel()
        assert len(alarms._heap) <= 2 * len(live) + 130
    assert len(alarms) == len(live)
    alarms.run_due(2000.0)
    assert len(alarms) == 0
    assert box.alarm is None


def test_a_hundred_thousand_cancelled_alarms_leave_no_memory() -> None:
    """Neither their actions nor their entries stay."""

    class Payload:
        pass

    alarms, _ = timers()
    payload = Payload()
    gone = weakref.ref(payload)
    pending = [alarms.at(float(n), lambda payload=payload: None) for n in range(100_000)]  # type: ignore[misc]
    for alarm in pending:
        alarm.cancel()
    del payload, pending, alarm
    gc.collect()
    assert gone() is None
    assert len(alarms) == 0
    assert len(alarms._heap) <= 130


def test_sweeping_during_a_round_loses_no_alarm() -> None:
    """An action that cancels most of the others makes the heap anew while it is being read."""
    alarms, box = timers()
    ran: list[int] = []
    doomed = [alarms.at(2.0, lambda: ran.append(-1)) for _ in range(500)]

    def cancel_them() -> None:
        for each in doomed:
            each.cancel()

    alarms.at(1.0, cancel_them)
    kept = [alarms.at(2.0, lambda n=n: ran.append(n)) for n in range(5)]  # type: ignore[misc]
    alarms.at(9.0, lambda: None)
    alarms.run_due(2.0)
    assert ran == list(range(len(kept)))
    assert (len(alarms), box.alarm) == (1, 9.0)


def test_random_alarms_match_a_sorted_list() -> None:
    """Set, cancel and run at random: what runs is what a plain list says."""
    rng = random.Random(42)
    for _ in range(50):
        alarms, box = timers()
        ran: list[int] = []
        model: dict[int, float] = {}
        handles = {}
        now = 0.0
        for number in range(300):
            action = rng.random()
            if action < 0.5:
                when = now + rng.choice((0.0, 0.5, 1.0, 5.0))
                handles[number] = alarms.at(when, lambda n=number, ran=ran: ran.append(n))  # type: ignore[misc]
                model[number] = when
            elif action < 0.8 and handles:
                chosen = rng.choice(list(handles))
                handles.pop(chosen).cancel()
                model.pop(chosen, None)
            else:
                now += rng.random()
                ran.clear()
                alarms.run_due(now)
                due = sorted((when, n) for n, when in model.items() if when <= now)
                assert ran == [n for _, n in due]
                for n in ran:
                    del model[n]
            assert len(alarms) == len(model)
            if model:
                assert box.alarm is not None
                assert box.alarm <= min(model.values())


# -- the queue of waiting requests


def job(name: str) -> Job:
    return Job(name, Request(name), None, 0.0, None, POLICY)


def names(queue: WaitingQueue) -> list[str]:
    return [each.id for each in queue]


def test_the_first_that_came_is_the_first_that_is_served() -> None:
    """`first` names it without taking it out."""
    queue = WaitingQueue(ageing_s=10.0)
    jobs = [job(name) for name in "abc"]
    for each in jobs:
        queue.add(each)
    assert (queue.first(), len(queue), names(queue)) == (jobs[0], 3, ["a", "b", "c"])
    queue.discard(jobs[0])
    assert queue.first() is jobs[1]


def test_a_request_that_is_added_again_keeps_its_place() -> None:
    """It is in the queue once; after a discard it starts again at the end."""
    queue = WaitingQueue(ageing_s=10.0)
    first, second = job("first"), job("second")
    queue.add(first)
    queue.add(second)
    queue.add(first)
    assert names(queue) == ["first", "second"]
    queue.discard(first)
    queue.add(first)
    assert names(queue) == ["second", "first"]
    assert len(queue) == 2


def test_a_request_may_leave_from_the_middle_and_leave_twice() -> None:
    """The others keep their order, and the length is right."""
    queue = WaitingQueue(ageing_s=10.0)
    jobs = [job(name) for name in "abcd"]
    for each in jobs:
        queue.add(each)
    queue.discard(jobs[1])
    queue.discard(jobs[1])
    queue.discard(job("stranger"))
    assert (names(queue), len(queue)) == (["a", "c", "d"], 3)
    for each in jobs:
        queue.discard(each)
    assert (queue.first(), names(queue), len(queue)) == (None, [], 0)


def test_the_queue_may_change_while_it_is_read() -> None:
    """What leaves is skipped, what comes meanwhile is not part of the reading."""
    queue = WaitingQueue(ageing_s=10.0)
    jobs = [job(name) for name in "abcd"]
    for each in jobs:
        queue.add(each)
    seen = []
    for each in queue:
        seen.append(each.id)
        if each is jobs[0]:
            queue.discard(jobs[0])
            queue.discard(jobs[2])
            queue.add(job("late"))
    assert seen == ["a", "b", "d"]
    assert names(queue) == ["b", "d", "late"]


def test_what_left_the_queue_leaves_no_memory() -> None:
    """Places that were given up behind a request that waits on are not kept for ever."""
    queue = WaitingQueue(ageing_s=10.0)
    patient = job("patient")
    queue.add(patient)
    assert queue.last_untried() is patient
    for number in range(100_000):
        passing = Job(str(number), Request(number), None, 0.0, 1e9, POLICY)
        queue.add(passing)
        queue.discard(passing)
    assert len(queue) == 1
    assert queue._untried is not None
    kept = max(len(heap._entries) for heap in (queue._ranked, queue._untried, queue._limited))
    assert kept <= 1000


# -- what is put aside


def put_aside(box: Mailbox, message: str) -> None:
    if box.leave(message):
        box.wake()


def test_what_is_put_aside_comes_before_whatever_is_put_after_it() -> None:
    """The books are in order when the next message is handled."""
    box = Mailbox()
    box.put(Envelope("first"))
    put_aside(box, "aside 1")
    put_aside(box, "aside 2")
    box.put(Envelope("second"))
    taken = [box.get().message for _ in range(4)]
    assert taken == ["aside 1", "aside 2", "first", "second"]


def test_what_is_put_aside_does_not_wake_an_owner_without_hurry() -> None:
    """It waits for the next message, and comes before that."""
    box, taken, asleep = Mailbox(), list[str](), threading.Event()

    def hurried() -> bool:
        asleep.set()
        return False

    box.hurried = hurried
    owner = threading.Thread(target=lambda: taken.extend(box.get().message for _ in range(2)))
    owner.start()
    assert asleep.wait(WAIT_S)
    put_aside(box, "aside")
    assert owner.is_alive()
    box.put(Envelope("next"))
    owner.join(WAIT_S)
    assert taken == ["aside", "next"]


def test_what_is_put_aside_wakes_an_owner_in_a_hurry() -> None:
    """Somebody waits for the slot that a report gives back."""
    box, taken, asleep = Mailbox(), list[str](), threading.Event()

    def hurried() -> bool:
        asleep.set()
        return True

    box.hurried = hurried
    owner = threading.Thread(target=lambda: taken.append(box.get().message))
    owner.start()
    assert asleep.wait(WAIT_S)
    put_aside(box, "aside")
    owner.join(WAIT_S)
    assert taken == ["aside"]


def test_an_owner_in_a_hurry_never_sleeps_on_what_was_put_aside() -> None:
    """However the two meet: the last look and the putting aside cannot miss each other."""
    box = Mailbox()
    box.hurried = lambda: True
    rounds, handled = 2000, threading.Semaphore(0)

    def own() -> None:
        for _ in range(rounds):
            box.get()
            handled.release()

    owner = threading.Thread(target=own, daemon=True)
    owner.start()
    for i in range(rounds):
        put_aside(box, str(i))
        assert handled.acquire(timeout=WAIT_S)
    owner.join(WAIT_S)


def test_an_alarm_goes_off_though_something_lies_aside() -> None:
    """What lies aside is delivered first, then the tick."""
    box, clock = Mailbox(), FakeClock()
    box.follow(clock)
    box.alarm = clock.now() + 1.0
    put_aside(box, "aside")
    clock.advance(1.0)
    assert box.get().message == "aside"
    assert isinstance(box.get().message, Tick)

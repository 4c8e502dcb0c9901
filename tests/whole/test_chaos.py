"""Behaviour 42 at large: the chaos suite in its short form, and that it sees what it should see.

The long form, with 200,000 requests, is `make chaos`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from chaos import __main__ as command_line
from chaos import closers, driver, plan, rest
from chaos.act import OneAct
from chaos.company import Company
from chaos.drills import THROTTLED, Drills
from chaos.entry import End, Entry
from chaos.findings import Findings, Violation
from chaos.footprint import Mark
from chaos.ledger import Ledger
from chaos.moves import KINDS, STREAM_MOVES, Move
from chaos.report import report
from chaos.stage import JumpingClock, Stage
from chaos.steps import BLOCKS, STREAMS, Do, Manner, Reading, Send, Way, names_of
from chaos.weather import Fault

from greenroom import (
    AllPoolMembersFailedError,
    LoadBalanceStrategy,
    Member,
    MemberStats,
    PoolFuture,
    PoolRef,
    PoolStats,
)
from greenroom.actors.claims.claims import Claim, reply
from greenroom.actors.executors.entered_agent import Stay
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.actors.policy.blame import Blame
from greenroom.actors.reading import error_words
from greenroom.actors.request.attempts import Attempts
from greenroom.actors.request.endings import Endings
from greenroom.actors.routing.headroom import Headroom
from greenroom.actors.routing.routing_table import Slot
from greenroom.actors.runtime.lease import Lease

LONG = 200_000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_b42_chaos_breaks_nothing(seed: int) -> None:
    """Every ask is answered once, no slot, permit, thread or descriptor is lost, books balance."""
    findings = driver.run(seed, 1600)
    assert findings.violations == [], report(findings)
    assert findings.sent == 1600
    assert findings.planned == plan.tally(seed, 1600)


# -- the plan


def test_a_seed_gives_the_same_plan_always() -> None:
    """Plan and counts are a function of seed and size, and another seed gives another plan."""
    assert list(plan.acts(5, 3000)) == list(plan.acts(5, 3000))
    assert plan.tally(5, 3000) == plan.tally(5, 3000)
    assert plan.tally(5, 3000) != plan.tally(6, 3000)


@pytest.mark.parametrize("requests", [1, 10, 799, 1600, 9999])
def test_a_plan_has_as_many_requests_as_it_should(requests: int) -> None:
    """The acts and rounds share them out, none is lost."""
    steps = itertools.chain.from_iterable(
        each.steps() for act in plan.acts(2, requests) for each in act.rounds
    )
    assert sum(isinstance(step, Send) for step in steps) == requests


def test_a_long_plan_has_everything_in_it() -> None:
    """Every strategy, every ending, every move, every fault, every way of sending."""
    acts = list(plan.acts(1, LONG // 10))
    assert {act.strategy for act in acts} == set(LoadBalanceStrategy)
    assert {act.ending for act in acts} == set(plan.Ending)
    planned = plan.tally(1, LONG // 10)
    unplanned = {Move.HOLD, Move.THROTTLED, *STREAM_MOVES}  # the drills' own, and streams'
    assert all(planned[f"move: {move}"] for move in Move if move not in unplanned)
    for move in STREAM_MOVES:
        assert planned[f"stream: {move}"]
    for move in {*KINDS, Move.HANG} - unplanned:
        assert planned[f"stream: {move}, before its first chunk"]
        assert planned[f"stream: {move}, after its first chunk"]
    assert all(planned[f"stream read: {reading}"] for reading in Reading)
    assert {act.nested for act in acts} == {True, False}
    assert {act.home for act in acts} == {True, False}
    assert {act.app_ends is None for act in acts if act.home} == {True, False}
    assert {act.settings["hedge_after_s"] for act in acts} == {None, 0.3, "p95"}
    assert all(planned[f"fault: {fault}"] for fault in Fault)
    for way in Way:
        assert planned[f"sent: {way}"]
        assert planned[f"sent: {way} of a function"] or way in BLOCKS
    assert all(planned[f"block: {manner}"] for manner in Manner)
    assert planned["cancel: by its id"]
    assert planned["cancel: by its holder"]


def test_a_step_is_counted_by_what_it_does() -> None:
    """The report names requests, moves, cancels and faults."""
    send = Send(Way.TELL, (Move.ERROR, Move.OK), applied=True, cancel_after=3)
    assert names_of(send) == [
        "sent: tell of a function",
        "move: exception",
        "move: answers",
        "cancel: by its id",
    ]
    stream = Send(Way.STREAM, (Move.ERROR, Move.EMPTY), before=0, reading=Reading.SLOW)
    assert names_of(stream) == [
        "sent: stream",
        "stream: exception, before its first chunk",
        "stream: empty chunks only",
        "stream read: slowly",
    ]
    block = Send(Way.ATTEMPTS, (Move.ERROR,), manner=Manner.TELLS, cancel_after=1)
    assert names_of(block) == [
        "sent: attempts in a thread",
        "move: exception",
        "cancel: by its id",
        "block: tells of failures",
    ]
    assert names_of(Do(Fault.JUMP)) == ["fault: clock jump"]


# -- a pool that is broken on purpose


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is not waited for long."""
    monkeypatch.setattr(rest, "PATIENCE_S", 1.0)


def every_nth(n: int) -> Any:
    numbers = itertools.count(1)
    return lambda: next(numbers) % n == 0


def is_found_out(what: str, requests: int) -> bool:
    """By one plan or another: whether a request comes where it shows hangs on the threads, too."""
    for seed in range(4, 12):
        findings = driver.run(seed, requests)
        if any(what in each.what for each in findings.violations):
            return True
    return False


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_loses_an_answer_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not hang: it names the request, its story and the seed."""
    resolve, now = Endings._resolve, every_nth(10)

    def forgetful(self: Endings, job: Any, error: BaseException) -> None:
        if not now():
            resolve(self, job, error)

    monkeypatch.setattr(Endings, "_resolve", forgetful)
    findings = driver.run(4, 400)
    assert any("every request is answered" in each.what for each in findings.violations)
    lost = next(each for each in findings.violations if each.what == "it has no answer")
    assert lost.request
    assert any("sent" in line for line in lost.story)
    assert "--seed 4 --requests 400" in report(findings)


def test_a_pool_that_answers_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes second has no effect, and is seen all the same."""
    now = every_nth(10)

    def twice(*args: Any) -> None:
        reply(*args)
        if now():
            reply(*args)

    monkeypatch.setattr("greenroom.actors.member.executions.reply", twice)
    findings = driver.run(4, 400)
    assert {"it was answered 2 times"} == {each.what for each in findings.violations}


def test_a_stream_that_ends_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end that comes second has no effect, and is seen all the same."""
    now = every_nth(5)

    def twice(claim: Claim, *args: Any) -> None:
        reply(claim, *args)
        if claim.channel is not None and now():
            reply(claim, *args)

    monkeypatch.setattr("greenroom.actors.member.executions.reply", twice)
    findings = driver.run(4, 400)
    assert {"it was answered 2 times"} == {each.what for each in findings.violations}
    ways = [str(way) for way in STREAMS | BLOCKS]  # a block may be a stream's as well
    for each in findings.violations:
        assert any(f"sent ({way})" in each.story[0] for way in ways)


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_does_not_take_a_block_back_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was let go of while it was open holds its slot for ever."""
    monkeypatch.setattr(Lease, "give_back", lambda _: None)
    assert is_found_out(": that never", 400)


def test_a_pool_that_gives_a_member_more_than_it_takes_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what its agents see, not by what the pool says of it."""

    def take(slot: Slot) -> None:
        slot.in_flight += 1  # and is as free as before

    monkeypatch.setattr(Slot, "take", take)
    monkeypatch.setattr("greenroom.actors.member.executions.default_concurrency", lambda _: 1000)
    monkeypatch.setattr(Headroom, "refused", lambda *_: None)  # a pace would let few of them in
    assert is_found_out("calls at a time", 1600)


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_does_not_close_a_generator_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that is kept, and goes on for ever as far as its agent can see."""
    kept: list[Any] = []
    monkeypatch.setattr("greenroom.actors.executors.agent_output._close", kept.append)
    findings = driver.run(4, 400)
    seen = {
        each.what.partition(":")[0] for each in findings.violations if ": that never" in each.what
    }
    assert seen & {"every stream is closed", "every call ends"}, findings.violations
    for generator in kept:
        generator.close()


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_leaves_closing_to_the_garbage_collector_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client's response that nobody closes keeps its connection."""

    async def forget(_: Any) -> None:
        """Do nothing."""

    monkeypatch.setattr("greenroom.actors.executors.agent_output.aclose", forget)
    assert is_found_out("every stream is closed", 400)


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_loses_a_slot_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that is never released holds its slot for ever."""
    release, now = Attempts.release, every_nth(20)

    def leaky(self: Attempts, *args: Any) -> None:
        if not now():
            release(self, *args)

    monkeypatch.setattr(Attempts, "release", leaky)
    assert is_found_out("the pool comes to rest", 400)


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_opens_a_breaker_by_one_odd_request_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A 403 that is taken for a bad key keeps its member out after the request has ended."""
    monkeypatch.setattr(error_words, "CERTAIN", error_words.CERTAIN | {403})
    assert is_found_out("has left a breaker that is not closed", 400)


def test_a_pool_that_does_not_know_a_poison_request_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its error does not say that it failed in the same way everywhere."""
    monkeypatch.setattr(Blame, "alike", False)
    assert is_found_out("its error does not say so", 400)


def test_a_pool_that_calls_members_that_rest_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They have said for how long, to the millisecond."""
    monkeypatch.setattr(Slot, "rest_for", lambda *_: False)
    monkeypatch.setattr(Headroom, "refused", lambda *_: None)  # by its pace it would rest, too
    assert is_found_out("times while it rested", 400)


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_does_not_leave_what_it_has_entered_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread goes away from what it has entered."""
    in_thread, member, kept = Stay.in_thread, Company.member, list[Any]()

    class Unleft:
        def __init__(self, manager: Any) -> None:
            self.manager = manager

        def __enter__(self) -> Any:
            kept.append(self.manager)
            return self.manager.__enter__()

        def __exit__(self, *_: object) -> None:
            pass

    def enter(self: Stay, begun: Any, ends: Callable[[], object], thread: Any) -> None:
        self.manager = Unleft(self.manager)
        in_thread(self, begun, ends, thread)

    def entered(self: Company, name: str) -> Member:
        """One that is always there is one that a thread enters; else only a guest is."""
        if name != "plain":
            return member(self, name)
        return Member(name, factory=functools.partial(self._stay, name), max_concurrency=2)

    monkeypatch.setattr(Stay, "in_thread", enter)
    monkeypatch.setattr(Company, "member", entered)
    findings = driver.run(5, 400)
    told = [each.what for each in findings.violations]
    assert any("were entered and never left" in each for each in told), told
    for manager in kept:
        with contextlib.suppress(RuntimeError):  # every third one does not end well
            manager.__exit__(None, None, None)


@pytest.mark.usefixtures("impatient")
def test_a_pool_that_leaves_a_task_on_the_apps_loop_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would go on for as long as the app does."""
    start, kept = OneAct._start, list[Any]()

    def littering(self: OneAct) -> PoolRef:
        kept.append(asyncio.get_running_loop().create_task(asyncio.Event().wait(), name="litter"))
        return start(self)

    monkeypatch.setattr(OneAct, "_start", littering)
    findings = driver.run(4, 400)
    assert [each.what for each in findings.violations] == ["1 tasks: litter"]


def test_a_drill_waits_for_the_call_that_has_lost_its_race() -> None:
    """An answer leaves the slower call behind, whose 429 no pool knows of before it has come: until
    then nothing else is sent, and no time passes.
    """
    running: list[Entry] = []
    sent_while: list[int] = []

    def end_a_call() -> None:
        """Of the four of a request: the second one to end has the answer."""
        entry = running.pop() if running else None
        if entry is not None and len(running) == 2:
            ledger.answered(PoolFuture(request_id=entry.id), won=True)
            ledger.heard(entry, End.VALUE)

    class Clock(JumpingClock):
        def advance(self, seconds: float) -> None:
            super().advance(seconds)
            end_a_call()

    class Pool:
        def stats(self) -> PoolStats:
            stats = PoolStats("p", strategy="failover", members=(MemberStats("a"),))
            stats = replace(stats, in_flight=len(running))
            end_a_call()
            return stats

    def send(step: Send) -> Entry:
        entry = Entry(f"1-{len(ledger.entries)}", step)
        sent_while.append(len(running))
        ledger.open(entry)
        running.extend([entry] * 4)
        return entry

    clock = Clock()
    ledger, began_at = Ledger(clock), clock.now()
    drills = Drills(cast(PoolRef, Pool()), Stage(clock), ledger, send)
    assert list(drills.throttling()) == []
    assert sent_while == [0] * THROTTLED
    assert clock.now() - began_at == pytest.approx(0.03 * THROTTLED)


def test_a_pool_that_tells_a_wrong_time_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every member rests, and the error says a second more than the first of them does."""
    says = AllPoolMembersFailedError.__init__

    def late(self: Any, *args: Any) -> None:
        says(self, *args)
        self.retry_after_s = (self.retry_after_s or 0.0) + 1.0

    monkeypatch.setattr(AllPoolMembersFailedError, "__init__", late)
    told = [each.what for seed in (1, 4) for each in driver.run(seed, 400).violations]
    assert any("was told to wait" in each for each in told)


def test_a_pool_that_closes_clients_under_their_calls_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client is closed while its calls clean up, which here go on until it is."""

    async def until_closed(client: closers.Client) -> None:
        while not client.closed:
            await closers._turns()
        client.cleaned += 1

    monkeypatch.setattr(closers.Client, "_clean_up", until_closed)
    monkeypatch.setattr(AgentActor, "_when_at_rest", lambda _, close: close())
    monkeypatch.setattr(closers, "TURNS", 2000)
    told = list(closers.judge(random.Random(0)))
    assert any("of its calls had cleaned up" in each for each in told)


@pytest.mark.parametrize("seed", range(6))
def test_unclean_closers_are_closed_after_their_calls(seed: int) -> None:
    """Whether their clean-up awaits, raises or never ends, and however their close hook behaves."""
    assert list(closers.judge(random.Random(seed))) == []


# -- the report


def findings_of(*violations: Violation) -> Findings:
    found = Findings(7, 1000, sent=1000, violations=list(violations))
    found.planned["fault: clock jump"] = 3
    found.performed["fault: clock jump"] = 2
    found.seen["ended: value"] = 990
    found.checks["every request: one answer, and one that fits"] = 1000
    found.marks = [Mark(500, 1000, None), Mark(1000, 1001, 2048)]
    return found


def test_the_report_says_what_was_injected_and_what_was_seen() -> None:
    """Planned beside carried out, ends, checks, memory, and the verdict."""
    text = report(findings_of())
    assert "greenroom chaos: seed 7, 1000 requests" in text
    row = next(line for line in text.splitlines() if "clock jump" in line)
    assert row.split()[-2:] == ["3", "2"]
    assert "ended: value" in text
    assert "1,000 requests:     1,001 blocks,     2,048 KiB resident" in text
    assert text.splitlines()[-1] == "OK: 1,000 checks, nothing that must not be"


def test_the_report_of_a_failure_says_how_to_have_it_again() -> None:
    """The seed, the command, and the last that is known of the request; not all of a thousand."""
    story = tuple(f"line {n}" for n in range(40))
    text = report(findings_of(*[Violation("it was lost", "act 1", "1-5", story)] * 30))
    assert "FAILED: 30 violations" in text
    assert "make chaos ARGS='--seed 7 --requests 1000'" in text
    assert "act 1, request 1-5: it was lost" in text
    assert "      line 39" in text
    assert "line 24\n" not in text
    assert "and 10 more" in text


def test_the_exit_code_says_whether_all_held(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """0 when it did, 1 when not; the report goes to a file as well."""
    found = findings_of()
    asked: list[tuple[int, int]] = []

    def run(seed: int, requests: int, tell: Any) -> Findings:
        asked.append((seed, requests))
        tell("on its way")
        return found

    monkeypatch.setattr(command_line, "run", run)
    file = tmp_path / "report.txt"
    assert command_line.main(["--seed", "7", "--report", str(file)]) == 0
    found.violations.append(Violation("it was lost", "act 1"))
    assert command_line.main(["--requests", "10"]) == 1
    assert asked == [(7, LONG), (1, 10)]
    assert "OK: 1,000 checks" in file.read_text()
    printed = capsys.readouterr()
    assert "it was lost" in printed.out
    assert printed.err == "on its way\n" * 2


def test_a_number_of_requests_below_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the number, and the rule."""
    with pytest.raises(SystemExit):
        command_line.main(["--requests", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err

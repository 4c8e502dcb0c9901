"""The judges of the chaos suite: what each of them sees, and what it lets be."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaos import books, footprint, model
from chaos.books import Tally
from chaos.entry import TURNS, Call, CallEnd, End, Entry
from chaos.footprint import Mark, judge_footprint, judge_memory
from chaos.ledger import Ledger
from chaos.model import Terms
from chaos.moves import KINDS, Move
from chaos.players import AsyncPlayer
from chaos.stage import JumpingClock, Stage
from chaos.steps import Send, Way
from chaos.streamers import AsyncClient, SyncClient
from chaos.watch import Watch
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    FailureKind,
    Member,
    MemberStats,
    PoolFuture,
    PoolSaturatedError,
    PoolStats,
    PoolStoppedError,
    Reply,
    Request,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.runtime import event_bus
from greenroom.testing import http_error

# -- the model sees what must not be, of a request


def answered(*moves: Move, way: Way = Way.FUTURE, **options: Any) -> Entry:
    """A request that was answered as it should be: the last call's value, or its error."""
    entry = Entry("1-1", Send(way, moves or (Move.OK,), **options))
    for number, move in enumerate(entry.send.moves):
        call = Call(f"member {number}", move)
        call.ended(CallEnd.RAISED if move in KINDS else CallEnd.VALUE, object())
        entry.calls.append(call)
    entry.answers, entry.end, entry.heard = 1, End.VALUE, [End.VALUE]
    last = entry.calls[-1]
    entry.value = Reply(last.result, member=last.member, attempts=len(entry.calls))
    return entry


def ended(entry: Entry, end: End, error: BaseException | None = None) -> Entry:
    entry.end, entry.heard, entry.error, entry.value = end, [end], error, None
    return entry


def failed(entry: Entry, *kinds: FailureKind, error: BaseException | None = None) -> Entry:
    """It ended in an error of the pool that says this of its members."""
    errors = [AttemptError(f"member {n}", n, kind, error) for n, kind in enumerate(kinds)]
    return ended(entry, End.FAILED, AllPoolMembersFailedError("pool", ["member 0"], errors))


def one_complaint(entry: Entry, terms: Terms | None = None) -> str:
    (complaint,) = model.judge(entry, terms or Terms())
    return complaint


def test_what_is_right_is_not_complained_of() -> None:
    """A request that was answered by its last call, or failed as its agents did, is fine."""
    for terms in (Terms(), Terms(clear=True), Terms(final=True), Terms(must_answer=True)):
        assert list(model.judge(answered(), terms)) == []
        assert list(model.judge(answered(Move.ERROR, Move.OK), terms)) == []
        assert list(model.judge(tell(), terms)) == []
    entry = answered(Move.CALLER)
    entry.calls[0].result = error = http_error(400)
    assert list(model.judge(ended(entry, End.CALLER, error), Terms(clear=True))) == []


def tell() -> Entry:
    entry = answered(way=Way.TELL)
    entry.answers, entry.end, entry.heard = 0, None, []
    return entry


def test_a_lost_answer_is_seen() -> None:
    """An ask without an answer."""
    entry = answered()
    entry.answers, entry.end, entry.heard = 0, None, []
    assert one_complaint(entry) == "it was never answered"


def test_a_double_answer_is_seen() -> None:
    """Somebody tried to answer twice; at the pool's end both sides may."""
    entry = answered()
    entry.answers = 2
    assert one_complaint(entry) == "it was answered 2 times"
    assert list(model.judge(entry, Terms(final=True))) == []
    entry.answers = 3
    assert one_complaint(entry, Terms(final=True)) == "it was answered 3 times"


def test_an_asker_that_was_not_told_is_seen() -> None:
    """The future has its answer, its asker still waits, or was told twice, or something else."""
    entry = answered()
    entry.heard = []
    assert one_complaint(entry) == "its asker was told 0 times"
    entry.heard = [End.VALUE, End.VALUE]
    assert one_complaint(entry) == "its asker was told 2 times"
    entry.heard = [End.FAILED]
    assert "its asker was told" in one_complaint(entry)


def test_an_asker_that_left_hears_that_it_left() -> None:
    """A cancelled task says so, although the answer came."""
    entry = answered(way=Way.AWAITED)
    entry.heard, entry.cancel_asked = [End.CANCELLED], True
    assert list(model.judge(entry, Terms())) == []
    entry.cancel_asked = False
    assert "its asker was told" in one_complaint(entry)


@pytest.mark.parametrize("events", [0, 2])
def test_a_request_that_is_not_over_once_is_seen(events: int) -> None:
    """The event at the end of a request comes once, where somebody listens; a tell's too."""
    for entry in (answered(), tell()):
        entry.ends = events
        assert one_complaint(entry) == f"{events} events said that it was over"
        entry.ends = 1
        assert list(model.judge(entry, Terms())) == []


def test_a_strange_value_is_seen() -> None:
    """An equal value is not enough: it is the very object that the member returned."""
    entry = answered()
    entry.value = replace(entry.value, value=object())
    assert "never returned the value" in one_complaint(entry)
    entry = answered()
    entry.value = replace(entry.value, member="another")
    assert "never returned the value" in one_complaint(entry)
    entry = answered()
    entry.value = "no reply"
    assert one_complaint(entry) == "it was answered with a str"
    entry = answered(Move.ERROR, Move.OK)
    entry.value = replace(entry.value, attempts=1)
    assert one_complaint(entry) == "its answer says 1 attempts, it had 2 calls"


def test_an_end_without_a_reason_is_seen() -> None:
    """Nobody cancelled it, the deadline was not over, nobody was waiting, the pool went on."""
    assert "no agent raised" in one_complaint(ended(answered(), End.CALLER, http_error(400)))
    cancelled = ended(answered(), End.CANCELLED, RequestCancelledError())
    assert one_complaint(cancelled) == "nobody has cancelled it"
    early = ended(answered(timeout_s=3.0), End.DEADLINE, DeadlineExceededError("pool", 1.0))
    early.answered_at = 2.9
    assert "its deadline was not over" in one_complaint(early)
    early.answered_at = 3.0
    assert list(model.judge(early, Terms())) == []
    refused = ended(answered(), End.SATURATED, PoolSaturatedError("pool", 1, 1.0))
    refused.calls, refused.unanswered = [], 20
    assert "it was refused" in one_complaint(refused, Terms(max_pending=20))
    refused.unanswered = 21
    assert list(model.judge(refused, Terms(max_pending=20))) == []
    stopped = ended(answered(), End.STOPPED, PoolStoppedError())
    assert one_complaint(stopped) == "the pool was not stopped"
    assert list(model.judge(stopped, Terms(final=True))) == []
    assert one_complaint(ended(answered(), End.OTHER, KeyError())) == "it ended in KeyError"


def test_a_cancel_that_did_not_cancel_is_seen() -> None:
    """The pool said that it had cancelled what ended otherwise."""
    entry = answered()
    entry.cancel_asked, entry.cancel_said = True, True
    assert one_complaint(entry) == "the pool said it had cancelled it"


def test_a_failure_that_nothing_explains_is_seen() -> None:
    """A member is said to have failed in a way in which its agent did not."""
    entry = failed(answered(Move.ERROR), FailureKind.AUTH)
    assert one_complaint(entry) == "nothing explains member 0: auth"
    entry = failed(answered(Move.ERROR), FailureKind.UNKNOWN, error=ValueError("not the agent's"))
    assert one_complaint(entry) == "nothing explains member 0: unknown"
    entry = answered(Move.ERROR)
    entry.calls[0].result = error = ValueError("the agent's")
    assert list(model.judge(failed(entry, FailureKind.UNKNOWN, error=error), Terms())) == []
    timed_out = failed(answered(Move.HANG), FailureKind.TIMEOUT)
    assert one_complaint(timed_out) == "nothing explains member 0: timeout"
    timed_out.answered_at = 10.0
    assert list(model.judge(timed_out, Terms(timeout_s=10.0))) == []
    crashed = failed(answered(Move.HANG), FailureKind.CRASHED)
    assert list(model.judge(crashed, Terms())) == []
    assert "nothing explains member 0: crashed" in model.judge(crashed, Terms(clear=True))


def test_a_deadline_late_on_the_clock_is_explained() -> None:
    """The difference of two late readings lacks a trifle."""
    entry = failed(answered(Move.HANG, timeout_s=0.3), FailureKind.TIMEOUT)
    entry.sent_at, entry.answered_at = 206876.0, 206876.3
    assert entry.elapsed_s < 0.3
    assert list(model.judge(entry, Terms())) == []


def test_a_repetition_that_is_not_allowed_is_seen() -> None:
    """Not idempotent, side effects begun, more often than `max_retries`, or twice on a member."""
    assert "not idempotent" in one_complaint(answered(Move.ERROR, Move.OK, idempotent=False))
    entry = answered(Move.SIDE_EFFECTS, Move.OK)
    entry.calls[0].side_effects = True
    assert "side effects" in one_complaint(entry)
    entry = answered(Move.ERROR, Move.ERROR, Move.OK)
    assert one_complaint(entry, Terms(max_retries=1)) == "it ran 3 times, 2 are allowed"
    assert list(model.judge(entry, Terms(max_retries=1, exhaustive=True))) == []
    entry.calls[1].member = entry.calls[0].member
    assert one_complaint(entry, Terms(exhaustive=True)) == "it ran 3 times, 2 are allowed"
    entry = answered(Move.ERROR, Move.OK, max_retries=0)
    assert one_complaint(entry) == "it ran 2 times, 1 are allowed"


def test_who_may_begin_when_side_effects_have_started() -> None:
    """Of two that race both may run by then, in whatever order their agents have begun; who is let
    begin later may not, be it the last call.
    """
    terms = Terms(hedging=True, max_retries=3)
    entry = answered(Move.SIDE_EFFECTS, Move.ERROR, Move.OK)
    for call, permitted in zip(entry.calls, (1, 2, 3), strict=True):
        call.permitted = permitted
    entry.calls[0].side_effects = 4
    assert list(model.judge(entry, terms)) == []
    assert "side effects" in one_complaint(entry)  # where nobody may race, it was a repetition
    entry.calls[0].side_effects = 2
    assert "side effects" in one_complaint(entry, terms)


def test_an_attempt_that_is_given_up_may_call_an_agent_late() -> None:
    """A pool inside has not heard yet that its attempt was given up, and calls its next agent when
    the attempt after it has started side effects. What comes of a later permission is a repetition.
    """
    entry = answered(Move.ERROR, Move.SIDE_EFFECTS, Move.OK)
    inside, effects, late = entry.calls
    inside.permitted = late.permitted = 1
    inside.member = late.member = "bound"
    late.ended(CallEnd.CUT)
    effects.result = error = http_error(503)
    failed(entry, FailureKind.TIMEOUT, FailureKind.UNAVAILABLE, error=error)
    entry.answered_at = 10.0
    effects.permitted, effects.side_effects = 2, 3
    terms = Terms(max_retries=3, attempts_inside=2)
    assert list(model.judge(entry, terms)) == []
    late.permitted = 4
    assert "side effects" in one_complaint(entry, terms)
    late.permitted = effects.permitted  # the pool inside has begun both
    assert "side effects" in one_complaint(entry, terms)


def test_when_the_pool_lets_somebody_begin_is_seen() -> None:
    """Before its agent is called, and after what was seen before."""
    watch, ledger = Watch(), Ledger(JumpingClock())
    entry = Entry("1-1", Send(Way.FUTURE))
    ledger.open(entry)
    before = next(TURNS)
    called: list[int] = []
    with (
        watch.on(lambda: ledger),
        pool_of(Member("a", lambda _: called.append(next(TURNS)))) as pool,
    ):
        pool.ask(Request("x", request_id="1-1"))
    assert before < entry.permitted["a"] < called[0]


def test_a_call_that_its_loop_has_left_behind_is_over() -> None:
    """Who swallows its cancellation and outlasts the grace of a loop that ends will never go on, so
    nobody waits for it. As long as the loop is open it may.
    """

    async def cancelled() -> None:
        task = asyncio.create_task(AsyncPlayer(stage, "alone").arun(entry))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)

    stage = Stage(JumpingClock())
    entry = Entry("1-1", Send(Way.TELL, (Move.STUBBORN,)))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(cancelled())
    assert not stage.wait_until_nothing_runs(0)
    loop.close()
    assert stage.wait_until_nothing_runs(0)
    assert [call.end for call in entry.calls] == [CallEnd.CUT]


def test_a_stream_that_its_loop_has_left_behind_cannot_be_closed() -> None:
    """Nothing can be awaited on a closed loop: what a task has there that has not ended is left
    behind. What a task has not closed that has ended is seen, be its loop closed or not.
    """

    async def reads(ends: bool) -> None:
        async def read() -> None:
            await anext(await AsyncClient(stage, "lazy").astream(entry))

        task = asyncio.create_task(read())
        await asyncio.wait([task], timeout=WAIT_S if ends else 0)

    for ends, move in ((False, Move.HANG), (True, Move.OK)):
        stage = Stage(JumpingClock())
        entry = Entry("1-3", Send(Way.ASYNC_STREAM, (move,), before=0))  # without keep-alives
        loop = stage.app_loop = asyncio.new_event_loop()
        loop.run_until_complete(reads(ends))
        assert not stage.wait_until_all_is_closed(0)
        loop.close()
        assert stage.wait_until_nothing_runs(0)
        assert stage.wait_until_all_is_closed(0) is not ends


def test_a_stream_that_is_closed_is_closed_in_whatever_thread() -> None:
    """Once is enough, and what is read after that is not open again."""
    stage = Stage(JumpingClock())
    stream = SyncClient(stage, "maker").stream(Entry("1-1", Send(Way.STREAM)))
    assert not stage.wait_until_all_is_closed(0)
    next(stream)
    assert not stage.wait_until_all_is_closed(0)
    stream.close()
    stream.close()
    assert next(stream, None) is None
    assert stage.wait_until_all_is_closed(0)


def test_a_call_that_does_not_end_is_seen() -> None:
    """At rest no agent is at work."""
    entry = answered(Move.HANG, Move.OK)
    entry.calls[0].end = CallEnd.RUNNING
    assert one_complaint(entry) == "one of its calls never ended"


def test_in_clear_weather_every_call_counts() -> None:
    """A value that was thrown away, or a failure that was not taken for one, is seen."""
    terms = Terms(clear=True)
    assert "it went on although" in one_complaint(answered(Move.OK, Move.OK), terms)
    assert "it should have ended" in one_complaint(failed(answered()), terms)
    assert list(model.judge(failed(answered()), Terms())) == []
    nobody = failed(answered())
    nobody.calls = []
    assert list(model.judge(nobody, terms)) == []


def test_where_every_member_is_well_a_value_must_come() -> None:
    """After a storm no request may fail."""
    complaint = one_complaint(failed(answered()), Terms(must_answer=True))
    assert "every member was well" in complaint


# -- the model sees what must not be, of a stream and of a race


def streamed(*moves: Move, chunks: tuple[object, ...] = ("", "a", "b"), **options: Any) -> Entry:
    """A stream whose last call gave these chunks, all of which its consumer had."""
    entry = answered(*moves, way=Way.STREAM, **options)
    entry.value, entry.member, entry.again = None, entry.calls[-1].member, End.VALUE
    entry.calls[-1].chunks = list(chunks)
    entry.chunks = list(chunks)
    return entry


def broken(entry: Entry) -> Entry:
    """It broke off after what its consumer has had."""
    error = StreamInterruptedError("pool", "member 0", (), entry.chunks, len(entry.chunks))
    entry.calls[-1].ended(CallEnd.RAISED, ValueError())
    entry.again = End.INTERRUPTED
    return ended(entry, End.INTERRUPTED, error)


def test_a_stream_as_it_should_be_is_not_complained_of() -> None:
    """Whole, broken off, left early, given up, failed over, with nothing but empty chunks."""
    assert list(model.judge(streamed(), Terms(clear=True))) == []
    assert list(model.judge(streamed(Move.ERROR, Move.OK), Terms(clear=True))) == []
    assert list(model.judge(streamed(Move.EMPTY, chunks=("", None)), Terms(clear=True))) == []
    assert list(model.judge(broken(streamed(Move.ERROR)), Terms(clear=True))) == []
    left = ended(streamed(), End.CANCELLED, RequestCancelledError())
    left.heard, left.again, left.chunks = [End.LEFT], None, left.chunks[:2]
    assert list(model.judge(left, Terms(clear=True))) == []


def test_chunks_that_are_not_those_of_one_call_are_seen() -> None:
    """Out of order, twice, of two calls, too few at a good end."""
    for chunks in (["b", "a"], ["a", "a", "b"], ["a", "b", "c"]):
        entry = streamed()
        entry.chunks = chunks
        assert "its chunks are not those of one call, in order" in model.judge(entry, Terms())
    entry = streamed()
    entry.chunks = ["", "a"]
    assert one_complaint(entry) == "no call has given exactly these chunks"
    mixed = streamed(Move.ERROR, Move.OK)
    mixed.calls[0].chunks, mixed.chunks = ["x"], ["x", "a", "b"]
    assert "its chunks are not those of one call, in order" in model.judge(mixed, Terms())


def test_empty_chunks_that_are_lost_or_anothers_are_seen() -> None:
    """All that the source has sent come, and of a member that failed what did not fit."""
    for chunks in (["", "a"], ["", "", "a"], ["", None, "", "", "a"]):
        entry = streamed(chunks=("", None, "", "a"))
        entry.chunks = list(chunks)
        assert "its member has sent 3" in " ".join(model.judge(entry, Terms(stream_buffer=2)))
    entry = streamed(Move.ERROR, Move.OK, chunks=("", "a"))
    entry.calls[0].chunks, entry.chunks = ["", None], ["", None, "", "a"]
    assert list(model.judge(entry, Terms(stream_buffer=1))) == []
    entry.calls[0].chunks.append("made when it had been given up")
    assert list(model.judge(entry, Terms(stream_buffer=1))) == []
    entry.calls[0].chunks.pop()
    assert "3 empty chunks came" in one_complaint(entry, Terms(stream_buffer=2))


def test_a_call_after_the_first_chunk_is_seen() -> None:
    """From then on the stream is its member's; a hedge may have been on its way."""
    entry = broken(streamed(Move.ERROR))
    entry.calls.append(Call("member 1", Move.OK, CallEnd.VALUE))
    assert "member 1 was called after member 0" in " ".join(model.judge(entry, Terms(clear=True)))
    entry.member = "another"
    assert "it is said to be of another" in " ".join(model.judge(entry, Terms()))


def test_an_interruption_that_is_none_is_seen() -> None:
    """Before the first chunk; with another number of chunks, or others, than were taken."""
    early = broken(streamed(Move.ERROR, chunks=()))
    assert "it was interrupted before its first chunk" in model.judge(early, Terms())
    entry = broken(streamed(Move.ERROR))
    assert isinstance(entry.error, StreamInterruptedError)
    entry.error.received_count = 7
    assert one_complaint(entry) == "3 chunks were taken, its error says 7"
    entry.error.received_count, entry.error.received = 3, ("x",)
    assert "holds chunks that its consumer has not had" in one_complaint(entry)


def test_a_stream_that_ends_otherwise_after_its_first_chunk_is_seen() -> None:
    """Nobody else can take it over, so there is nothing else to say."""
    entry = failed(streamed(Move.ERROR, chunks=("a",)))
    entry.again = End.FAILED
    assert "after its first chunk" in one_complaint(entry)


def test_a_stream_that_goes_on_after_its_end_is_seen() -> None:
    """Who asks again hears the same."""
    entry = streamed()
    entry.again = End.OTHER
    assert "after its end it went on" in one_complaint(entry)


def race(*ends: CallEnd, idempotent: bool = True) -> Entry:
    """Two calls side by side, the first of which has won."""
    entry = answered(Move.SLOW, Move.SLOW, idempotent=idempotent)
    first, second = entry.calls
    first.began, second.began, first.over, second.over = 1, 2, 3, 4
    first.end, second.end = ends
    entry.value = Reply(first.result, member=first.member, attempts=2)
    return entry


def test_two_calls_side_by_side_are_a_race_where_that_is_allowed() -> None:
    """Hedging is on, and the request may be repeated; once."""
    hedging = Terms(clear=True, hedging=True)
    for loser in (CallEnd.CUT, CallEnd.VALUE):
        assert list(model.judge(race(CallEnd.VALUE, loser), hedging)) == []
        said = list(model.judge(race(CallEnd.VALUE, loser), Terms(clear=True)))
        assert "2 of its calls ran side by side, 1 are allowed" in said
    said = list(model.judge(race(CallEnd.VALUE, CallEnd.CUT, idempotent=False), hedging))
    assert "2 of its calls ran side by side, 1 are allowed" in said


def test_a_rival_that_a_stream_has_beaten_may_still_be_ending_when_another_follows() -> None:
    """The stream had begun, by chunks that do not count, and failed all the same. A third call
    beside two that were not beaten so is one too many.
    """
    terms = Terms(clear=True, hedging=True, max_retries=2)
    entry = streamed(Move.ERROR, Move.SLOW, Move.OK)
    first, second, third = entry.calls
    first.began, second.began, third.began = 1, 2, 4
    first.over, second.over, third.over = 3, 5, 6
    first.chunks, second.end = [""], CallEnd.CUT
    assert list(model.judge(entry, terms)) == []
    first.chunks = []
    assert "3 of its calls ran side by side, 2 are allowed" in model.judge(entry, terms)


def test_a_loser_that_is_counted_is_seen() -> None:
    """Only the winner is a success of its member."""
    terms, before = Terms(clear=True, hedging=True), at_rest(members=(member_stats(0, 0),))
    entry = race(CallEnd.VALUE, CallEnd.VALUE)
    entry.calls[1].member = "member 0"
    right = at_rest(members=(member_stats(1, 0),))
    assert list(books.judge_members(before, right, [entry], terms)) == []
    wrong = at_rest(members=(member_stats(2, 0),))
    assert list(books.judge_members(before, wrong, [entry], terms)) == [
        "member 0 gained 2 successes, its agent saw 1"
    ]


def test_too_many_hedges_are_seen() -> None:
    """One in twenty requests, and none where hedging is off."""
    assert list(books.judge_hedges(at_rest(accepted=40, hedges=2), True)) == []
    assert list(books.judge_hedges(at_rest(accepted=19, hedges=1), True)) == []
    assert list(books.judge_hedges(at_rest(accepted=40, hedges=3), True)) == [
        "3 hedges for 40 requests"
    ]
    assert list(books.judge_hedges(at_rest(accepted=40, hedges=1), False)) == [
        "1 hedges, hedging is off"
    ]


# -- the model sees what must not be, of a pool


def at_rest(**changes: Any) -> PoolStats:
    stats = PoolStats("pool", strategy="random", accepted=5, completed=3, failed=1, cancelled=1)
    return replace(stats, **changes)


def tally() -> Tally:
    """Of four asks and a tell that succeeded."""
    return Tally(Counter({End.VALUE: 2, End.FAILED: 1, End.CANCELLED: 1}), 1, 0, (1, 1))


def test_a_loser_with_the_same_answer_is_no_winner() -> None:
    """Both have returned None, say: it is the member's name that tells them apart."""
    terms, before = Terms(clear=True, hedging=True), at_rest(members=(member_stats(0, 0),))
    entry = race(CallEnd.VALUE, CallEnd.VALUE)
    first, second = entry.calls
    first.member, second.member = "member 1", "member 0"
    first.result = second.result = None
    entry.value = Reply(None, member="member 1", attempts=2)
    assert list(books.judge_members(before, before, [entry], terms)) == []


@pytest.mark.parametrize(
    ("stats", "complaint"),
    [
        (at_rest(pending=1), "1 pending and 0 in flight"),
        (at_rest(in_flight=1), "0 pending and 1 in flight"),
        (at_rest(members=(MemberStats("a", in_flight=2),)), "a has lost 2 of its slots"),
        (at_rest(members=(MemberStats("a", abandoned=1),)), "a still counts 1 abandoned"),
        (at_rest(accepted=6), "accepted is 6"),
        (at_rest(failed=2), "what was accepted is not what has ended"),
        (at_rest(completed=2, failed=2), "completed is 2"),
        (at_rest(cancelled=2, failed=0), "cancelled is 2"),
    ],
)
def test_books_that_are_wrong_are_seen(stats: PoolStats, complaint: str) -> None:
    """A leaked slot, a request counted twice or not at all, a cancelled one counted as failed."""
    assert list(books.judge_rest(at_rest(), tally())) == []
    assert any(each.startswith(complaint) for each in books.judge_rest(stats, tally()))


def test_the_tally_counts_as_the_pool_should() -> None:
    """Asks by how they ended, tells by what their agents did."""
    counted = Tally()
    counted.add(answered(), Terms())
    counted.add(tell(), Terms(clear=True))
    counted.add(tell(), Terms())
    given_up = tell()
    given_up.cancel_asked = given_up.cancel_said = True
    counted.add(given_up, Terms(clear=True))
    assert counted == Tally(Counter({End.VALUE: 1}), 3, 1, (1, 3))


def test_members_counts_that_are_wrong_are_seen() -> None:
    """Every success and failure that its agent saw in clear weather is the member's."""
    terms, before = (
        Terms(clear=True),
        at_rest(members=(member_stats(4, 1), MemberStats("member 1"))),
    )
    entries = [answered(), answered(), answered(Move.ERROR, Move.OK)]
    other = replace(member_stats(1, 0), name="member 1")
    right = at_rest(members=(member_stats(6, 2), other))
    assert list(books.judge_members(before, right, entries, terms)) == []
    wrong = at_rest(members=(member_stats(5, 3), other))
    assert list(books.judge_members(before, wrong, entries, terms)) == [
        "member 0 gained 1 successes, its agent saw 2",
        "member 0 gained 2 failures, its agent saw 1",
    ]


def test_what_only_the_pool_can_know_is_left_open() -> None:
    """A request that was cut off may have been counted or not, at a member that never began."""
    terms, before = Terms(clear=True, max_retries=1), at_rest(members=(member_stats(0, 0),))
    cut = answered()
    cut.cancel_asked = True
    slow = failed(answered(Move.ERROR))
    slow.answered_at = terms.timeout_s
    for entry, successes, failures in ((cut, 1, 1), (slow, 1, 3), (answered(way=Way.TELL), 1, 0)):
        right = at_rest(members=(member_stats(successes, failures),))
        assert list(books.judge_members(before, right, [entry], terms)) == []
        more = at_rest(members=(member_stats(successes, failures + 1),))
        assert len(list(books.judge_members(before, more, [entry], terms))) == 1


def member_stats(successes: int, failures: int) -> MemberStats:
    stats = MemberStats("member 0")
    return replace(stats, health=replace(stats.health, successes=successes, failures=failures))


# -- what is left over


def test_a_leaked_thread_is_seen() -> None:
    """One that goes on after its pool has stopped, by its name; one that ends is waited for."""
    before, gate = footprint.footprint(), threading.Event()
    thread = threading.Thread(target=gate.wait, name="leaked", daemon=True)
    thread.start()
    try:
        (complaint,) = judge_footprint(before, footprint.footprint())
        assert complaint == "1 more thread(s) 'leaked'"
    finally:
        gate.set()
    footprint.wait_for_threads(before, 10.0)
    assert list(judge_footprint(before, footprint.footprint())) == []


@pytest.mark.skipif(footprint.footprint().descriptors is None, reason="the system does not tell")
def test_a_leaked_descriptor_is_seen(tmp_path: Path) -> None:
    """One more open file than before."""
    before = footprint.footprint()
    with (tmp_path / "file").open("w"):
        (complaint,) = judge_footprint(before, footprint.footprint())
    assert "open descriptors" in complaint


def test_a_handler_that_stays_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook of the process that is another one afterwards; an observer; an actor."""
    before = footprint.footprint()
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    assert list(judge_footprint(before, footprint.footprint())) == [
        "threading.excepthook was changed"
    ]
    monkeypatch.undo()
    end = event_bus.observe(lambda _: None)
    assert list(judge_footprint(before, footprint.footprint())) == [
        f"{before.observers + 1} observers of all events, {before.observers} before"
    ]
    end()
    more = replace(before, actors=before.actors + 1)
    assert list(judge_footprint(before, more)) == [
        f"{before.actors + 1} actors are registered, {before.actors} before"
    ]


def test_memory_that_grows_is_seen() -> None:
    """By the blocks that a request may leave behind, on top of what caches take."""
    first = Mark(1000, 100_000, 50_000)
    allowed = int(footprint.BLOCKS_GIVEN + footprint.BLOCKS_PER_REQUEST * 9000)
    flat = Mark(10_000, 100_000 + allowed, 50_000)
    assert list(judge_memory([first, flat])) == []
    assert len(list(judge_memory([first, replace(flat, blocks=flat.blocks + 1)]))) == 1
    fat = replace(flat, resident_kib=50_001 + footprint.RESIDENT_KIB)
    assert len(list(judge_memory([first, fat]))) == 1
    assert list(judge_memory([first])) == []


# -- what watches


def test_a_second_answer_is_counted_although_it_has_no_effect() -> None:
    """The future ignores it; the ledger does not."""
    ledger = Ledger(JumpingClock())
    entry = Entry("1-1", Send(Way.FUTURE))
    ledger.open(entry)
    with Watch().on(lambda: ledger):
        future: PoolFuture[str] = PoolFuture("1-1")
        assert future.resolve("first")
        assert not future.resolve("second")
        PoolFuture[str]("of nobody").resolve("lost")
    assert (entry.answers, entry.end, entry.value) == (2, End.VALUE, "first")
    assert ledger.strangers == {"of nobody": 1}


def test_what_the_pool_complains_of_is_a_fault_unless_it_was_injected() -> None:
    """Complaints about the plan's own subscribers and hooks are counted, others are faults."""
    watch = Watch()
    with watch.on(lambda: None):
        event_bus.complain("a subscriber raised on attempt.failed", ValueError())
        assert watch.faults == []
        event_bus.complain("an actor failed to handle a Request", ValueError("broken"))
    assert len(watch.faults) == 1
    assert "an actor failed to handle a Request" in watch.faults[0]
    assert watch.seen["complaint: a subscriber raised on"] == 1


def test_what_dies_quietly_is_a_fault() -> None:
    """A thread that an exception ends; a warning, as of a coroutine that nobody awaits."""
    watch = Watch()

    def die() -> None:
        raise ValueError("dead")

    async def forgotten() -> None:
        """Never awaited."""

    with watch.on(lambda: None), warnings.catch_warnings():
        warnings.simplefilter("always")
        thread = threading.Thread(target=die)
        thread.start()
        thread.join()
        coroutine = forgotten()
        del coroutine
    assert "ValueError: dead" in watch.faults[0]
    assert "never awaited" in watch.faults[1]


# -- what is not a fault


def test_same_everywhere_is_said_if_and_only_if_it_is_so() -> None:
    """Of two members that failed in one way; not of one, nor of two ways."""
    alike = failed(answered(Move.BROKEN, Move.BROKEN), *[FailureKind.UNAVAILABLE] * 2)
    clear = Terms(clear=True)
    assert one_complaint(alike, clear) == (
        "it failed in the same way everywhere, and its error does not say so"
    )
    assert list(model.judge(alike, Terms(clear=True, hedging=True))) == []
    assert isinstance(alike.error, AllPoolMembersFailedError)
    errors = alike.error.errors
    alike.error = AllPoolMembersFailedError("pool", [], errors, same_everywhere=True)
    assert list(model.judge(alike, clear)) == []
    alone = failed(answered(Move.BROKEN), FailureKind.UNAVAILABLE)
    alone.error = AllPoolMembersFailedError("pool", [], errors[:1], same_everywhere=True)
    assert "same everywhere is said of 1 members" in one_complaint(alone, clear)
    differ = failed(answered(Move.BROKEN, Move.ERROR), FailureKind.UNAVAILABLE, FailureKind.UNKNOWN)
    assert not any("same" in each for each in model.judge(differ, clear))


def test_same_everywhere_may_be_said_of_failures_that_the_error_no_longer_has() -> None:
    """Of a member that failed twice it has the last; the first may have been as elsewhere."""
    errors = [
        AttemptError("member 0", 0, FailureKind.UNKNOWN, ValueError(), attempts=1),
        AttemptError("member 1", 1, FailureKind.UNAVAILABLE, ValueError(), attempts=2),
    ]
    entry = failed(answered(Move.ERROR, Move.ERROR))
    entry.error = AllPoolMembersFailedError("pool", [], errors, same_everywhere=True)
    assert not any("same" in each for each in model.judge(entry, Terms()))
    errors[1] = AttemptError("member 1", 1, FailureKind.UNAVAILABLE, ValueError(), attempts=1)
    entry.error = AllPoolMembersFailedError("pool", [], errors, same_everywhere=True)
    assert any("same everywhere is said" in each for each in model.judge(entry, Terms()))


def test_a_consumer_that_leaves_before_the_mark_has_chunks_of_the_one_that_was_cut() -> None:
    """Another has begun anew: its name is said, the mark that says so was not taken."""
    entry = streamed(Move.ERROR, Move.OK)
    entry.calls[0].began, entry.calls[1].began = 1, 2
    entry.calls[0].chunks, entry.calls[1].chunks = ["a", "b"], ["c"]
    entry.chunks, entry.cancel_asked, entry.again = ["a"], True, End.CANCELLED
    ended(entry, End.CANCELLED, RequestCancelledError())
    assert list(model.judge(entry, Terms(on_cut="restart"))) == []
    assert "it is said to be of member 1" in next(model.judge(entry, Terms()))
    entry.end, entry.value = End.VALUE, None  # the other one has answered, and nobody has read it
    assert list(model.judge(entry, Terms(on_cut="restart"))) == []


def test_a_chunk_that_came_as_its_call_was_cut_off_was_not_shown() -> None:
    """Its empty ones before it, which did not fit, were shown as those of a call that failed."""
    entry = streamed(Move.SLOW, Move.OK)
    entry.calls[0].end, entry.calls[0].chunks = CallEnd.CUT, [None, "", "late"]
    entry.calls[1].chunks, entry.chunks = [None, "", "a"], [None, "", None, "", "a"]
    assert list(model.judge(entry, Terms(stream_buffer=1))) == []


def test_the_one_block_of_an_acquire_may_be_left_before_it_hears_that_its_time_was_over() -> None:
    """Its caller has what it did; the pool has held the attempt against the member."""
    entry = failed(answered(Move.SLOW, way=Way.ACQUIRE), FailureKind.TIMEOUT)
    entry.heard, entry.answered_at = [End.VALUE], 10.0
    assert list(model.judge(entry, Terms())) == []
    entry.answered_at = 9.0
    assert any("its asker was told" in each for each in model.judge(entry, Terms()))
    entry.answered_at, entry.send = 10.0, replace(entry.send, way=Way.ATTEMPTS)
    assert any("its asker was told" in each for each in model.judge(entry, Terms()))


def test_failures_that_may_be_taken_back_are_no_lower_bound() -> None:
    """Of a request that nobody could answer, all of one kind; one that was answered in the end
    leaves its failures with their members.
    """
    terms, before = Terms(clear=True), at_rest(members=(member_stats(0, 0),))
    poison = failed(answered(Move.BROKEN, Move.BROKEN), *[FailureKind.UNAVAILABLE] * 2)
    assert list(books.judge_members(before, before, [poison], terms)) == []
    cut = ended(answered(Move.ERROR), End.INTERRUPTED)  # others were out for what may be as odd
    assert list(books.judge_members(before, before, [cut], terms)) == []
    refused = ended(answered(Move.UNAVAILABLE, Move.CALLER), End.CALLER)
    assert list(books.judge_members(before, before, [refused], terms)) == []
    mended = answered(Move.BROKEN, Move.OK)
    assert len(list(books.judge_members(before, before, [mended], terms))) == 1

"""The model: whether what was seen may have been so. Pure: observations in, complaints out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from chaos.chunks import failed_quietly, those_that_count
from chaos.entry import Call, CallEnd, End, Entry
from chaos.moves import COUNTED, KINDS, REPLACED, Move
from chaos.steps import MADE_ON_LOOPS, ON_LOOPS, ONCE, Way
from chaos.streamed import judge_stream
from greenroom import (
    AllPoolMembersFailedError,
    AttemptError,
    FailureKind,
    PoolError,
    Reply,
    ResourceError,
    StreamInterruptedError,
)

ROUNDING_S = 1e-6
"""What the difference of two late readings of the clock may lack: after days, 0.3 s are less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under what circumstances requests were sent.

    Attributes:
        timeout_s, max_retries, max_pending: the pool's settings.
        exhaustive: the strategy tries every member once, whatever `max_retries` says.
        clear: nothing cut calls off but time, which each request knows of itself.
        must_answer: every member was well, and had room: each request has a value.
        final: the pool was ended meanwhile.
        hedging: a slow request may be given to a second member as well.
        on_cut: what follows when a stream breaks off after its first chunk.
        same_member_retries: how often a member that broke off may be asked again at once.
        stays: a preferred member that rests is waited for.
        chunk_limit_s: the least time limit that a chunk has of its own.
        attempts_inside: how often a member that is a pool may try; 0: none is.
        stream_buffer: the chunks that an agent may be ahead of its consumer.
    """

    timeout_s: float = 10.0
    max_retries: int = 3
    max_pending: int = 1000
    exhaustive: bool = False
    clear: bool = False
    must_answer: bool = False
    hedging: bool = False
    on_cut: str = "raise"
    same_member_retries: int = 0
    stays: bool = False
    chunk_limit_s: float = float("inf")
    stream_buffer: int = 64
    attempts_inside: int = 0
    final: bool = False

    @property
    def least_s(self) -> float:
        """The time that an attempt of any request has, at least."""
        return min(self.timeout_s, self.chunk_limit_s)

    def limit_s(self, entry: Entry) -> float:
        """The time that an attempt of the request has, at least."""
        if not entry.send.has_chunks:
            return self.timeout_s
        return self.least_s


def judge(entry: Entry, terms: Terms) -> Iterator[str]:
    """What cannot have been so of one request, once its pool is at rest or has ended."""
    yield from _answered_once(entry, terms)
    yield from _heard_once(entry, terms)
    yield from _over_once(entry, terms)
    yield from _may_end_so(entry, terms)
    yield from _repeated_only_so(entry, terms)
    yield from _every_call_counts(entry, terms)
    yield from _says_so_if_it_was_poison(entry, terms)
    yield from entry.odd
    if entry.send.is_stream:
        sure = is_undisturbed(entry, terms)
        restarts = terms.on_cut == "restart"
        yield from judge_stream(
            entry, terms.stream_buffer, sure=sure, hedging=terms.hedging, restarts=restarts
        )
        if entry.marks and terms.on_cut != "restart":
            yield "it has started over"
        if terms.on_cut == "hold" and entry.end is not End.VALUE and entry.chunks:
            yield f"chunks were shown of what ended in {entry.end!r}"


def _answered_once(entry: Entry, terms: Terms) -> Iterator[str]:
    if entry.is_tell:
        return
    if entry.end is None:
        yield "it was never answered"
    elif entry.answers != 1 and not (terms.final and entry.answers == 2):
        # An ask that meets the end of its pool is answered by both sides: the second has no effect.
        yield f"it was answered {entry.answers} times"


def _heard_once(entry: Entry, terms: Terms) -> Iterator[str]:
    """The asker is told, once, and what the future says."""
    if entry.is_tell or entry.end is None:
        return
    if len(entry.heard) != 1:
        yield f"its asker was told {len(entry.heard)} times"
    elif entry.heard[0] is not entry.end and not (_gave_up(entry) or _knows(entry, terms)):
        yield f"its asker was told {entry.heard[0]!r}, its future {entry.end!r}"


def _gave_up(entry: Entry) -> bool:
    """Whether the asker left before the answer: its task was cancelled, or its wait timed out."""
    if entry.send.way is Way.AWAITED:
        return entry.heard == [End.CANCELLED] and entry.cancel_asked
    if entry.send.is_stream or entry.send.is_block:
        return entry.heard == [End.LEFT] or (entry.heard == [End.CANCELLED] and entry.cancel_asked)
    return entry.send.way is Way.BLOCKING and entry.heard == [End.DEADLINE]


def _knows(entry: Entry, terms: Terms) -> bool:
    """Whether the code of a block has said itself how its attempt ended, or when: one in a thread
    goes on when its time is over, and the request ends without it. Cancelled, it may have ended by
    that before. The one block of an `acquire` is over when it is left: it may not have heard yet
    that its time was.
    """
    cut_off = entry.cancel_asked or entry.elapsed_s >= terms.limit_s(entry) - ROUNDING_S
    if entry.heard == [End.OVERDUE]:
        return entry.send.is_block and cut_off and entry.end is End.CANCELLED
    if entry.heard == [End.VALUE]:
        return entry.send.way in ONCE and cut_off
    if entry.heard != [End.OWN] or entry.end is End.VALUE:
        return False
    return entry.end is not End.CANCELLED or cut_off or not terms.clear


def _ended_at(entry: Entry) -> float:
    """How many seconds after its beginning the time was over that it had, as its error has it: who
    can be in time no more gives way to others, and is told how much was left.
    """
    left_s = getattr(entry.error, "left_s", 0.0)
    return entry.elapsed_s + (left_s if entry.unanswered > 1 else 0.0)


def _over_once(entry: Entry, terms: Terms) -> Iterator[str]:
    if entry.ends not in (None, 1) and not terms.final:
        yield f"{entry.ends} events said that it was over"


def _may_end_so(entry: Entry, terms: Terms) -> Iterator[str]:
    """Whether there is a reason for the end that the request came to."""
    if terms.must_answer and not entry.is_tell and entry.end is not End.VALUE:
        yield f"every member was well, and it ended in {entry.end!r} ({entry.error!r})"
    if entry.cancel_said is True and entry.end in (End.VALUE, End.FAILED, End.INTERRUPTED):
        yield "the pool said it had cancelled it"
    match entry.end:
        case End.VALUE:
            yield from _value_is_of_a_call(entry, terms)
        case End.CALLER if not any(call.result is entry.error for call in entry.calls):
            yield "no agent raised the error that it was answered with"
        case End.FAILED | End.INTERRUPTED:
            yield from _failures_are_explained(entry, terms)
        case End.CANCELLED if not (entry.cancel_asked or _gave_up(entry) or _knows(entry, terms)):
            yield "nobody has cancelled it"
        case End.DEADLINE if _ended_at(entry) < (entry.send.timeout_s or float("inf")) - ROUNDING_S:
            yield f"its deadline was not over after {entry.elapsed_s:g} s"
        case End.SATURATED if entry.calls or entry.unanswered <= terms.max_pending:
            yield f"it was refused with {entry.unanswered} unanswered, {len(entry.calls)} calls"
        case End.STOPPED if not terms.final:
            yield "the pool was not stopped"
        case End.OTHER:
            yield f"it ended in {type(entry.error).__name__}"


def fails_alike(calls: list[Call]) -> bool:
    """Whether these calls, of two members at least, have failed in one way that may be the fault of
    their request.
    """
    kinds = {
        FailureKind.UNKNOWN if failed_quietly(each) else KINDS.get(each.move) for each in calls
    }
    certain = any(each.move in (Move.AUTH, Move.QUOTA) for each in calls)
    members = {each.member for each in calls}
    counts = all(kind is not None and kind.counts_for_breaker for kind in kinds)
    return len(members) > 1 and len(kinds) == 1 and counts and not certain


def _says_so_if_it_was_poison(entry: Entry, terms: Terms) -> Iterator[str]:
    """Its error says that it failed in the same way everywhere, if and only if it did."""
    error = entry.error
    if not isinstance(error, AllPoolMembersFailedError) or terms.attempts_inside:
        return  # a pool inside may fail without any call of an agent
    counted = [
        each
        for each in error.errors
        if each.started
        and isinstance(each.kind, FailureKind)
        and each.kind.counts_for_breaker
        and not isinstance(each.error, ResourceError)  # it had begun there, but before that
    ]
    if error.same_everywhere:
        # An error has the last failure of each member. One before it may have counted, in another
        # way than the last: it was overdue before its agent had begun, say, and refused later.
        kinds = {each.kind for each in counted if each.attempts == 1}
        members = {each.member for each in counted}
        members |= {each.member for each in error.errors if each.attempts > 1}
        members |= {each.member for each in entry.calls if each.move in COUNTED}
        if len(members) < 2 or len(kinds) > 1:
            yield f"same everywhere is said of {len(members)} members that failed as {kinds}"
    elif (
        is_undisturbed(entry, terms)
        and not terms.hedging
        and fails_alike(entry.calls)
        and len({each.kind for each in error.errors if not each.skipped}) == 1
    ):  # one that never got as far as its agent has failed in a way of its own
        yield "it failed in the same way everywhere, and its error does not say so"


def _value_is_of_a_call(entry: Entry, terms: Terms) -> Iterator[str]:
    if entry.send.is_stream:
        return  # its chunks are looked at
    if entry.send.is_block:
        if not any(call.end is CallEnd.VALUE for call in entry.calls):
            yield "none of its blocks has ended well"
        return
    reply = entry.value
    if not isinstance(reply, Reply):
        yield f"it was answered with a {type(reply).__name__}"
        return
    if not any(call.result is reply.value for call in entry.calls if call.member == reply.member):
        yield f"{reply.member} never returned the value that it was answered with"
    # A second attempt, when the first one answered.
    on_its_way = 1 if terms.hedging or entry.trials else 0
    if len(entry.calls) > (reply.attempts + on_its_way) * max(1, terms.attempts_inside):
        yield f"its answer says {reply.attempts} attempts, it had {len(entry.calls)} calls"


def _failures_are_explained(entry: Entry, terms: Terms) -> Iterator[str]:
    assert isinstance(entry.error, AllPoolMembersFailedError | StreamInterruptedError)
    for failure in entry.error.errors:
        if not failure.skipped and not _is_explained(failure, entry, terms):
            yield f"nothing explains {failure.member}: {failure.kind}"


def _is_explained(failure: AttemptError, entry: Entry, terms: Terms) -> bool:
    """Whether the member did what it is said to have done, or its surroundings may have."""
    if terms.attempts_inside and isinstance(failure.error, PoolError):
        return True  # a pool inside has said so
    surroundings = {FailureKind.UNAVAILABLE, FailureKind.CREATE_FAILED}  # it never started
    limit_s = min(terms.limit_s(entry), entry.send.timeout_s or float("inf"))
    if entry.elapsed_s >= limit_s - ROUNDING_S:
        surroundings.add(FailureKind.TIMEOUT)
    if not terms.clear:
        surroundings.add(FailureKind.CRASHED)
        surroundings.add(FailureKind.INTERRUPTED)  # there was no loop for what it has returned
    if entry.send.way in ON_LOOPS and failure.member in MADE_ON_LOOPS:
        surroundings.add(FailureKind.UNKNOWN)  # no agent was made there
    own = [call for call in entry.calls if call.member == failure.member]
    raised = [call for call in own if call.end is CallEnd.RAISED]
    mine = (call for call in raised if call.result is failure.error)
    return (
        any(KINDS[call.move] is failure.kind for call in mine)
        or (failure.kind is FailureKind.UNKNOWN and any(map(failed_quietly, raised)))
        or any(KINDS[each.move] is failure.kind for each in raised if each.move in REPLACED)
        or failure.kind in surroundings
    )


def _repeated_only_so(entry: Entry, terms: Terms) -> Iterator[str]:
    """Whether it was allowed to run as often as it did."""
    calls, send = entry.calls, entry.send
    if any(call.end is CallEnd.RUNNING for call in calls):
        yield "one of its calls never ended"
    if len(calls) > 1 and not send.idempotent:
        yield f"it is not idempotent, and ran {len(calls)} times"
    # Two that race may both run already when one of them starts side effects; but none may be let
    # begin after that.
    started = [call.side_effects for call in calls if call.side_effects]
    late = started and any(call.permitted > min(started) for call in calls)
    raced = (terms.hedging and not send.is_block) or entry.trials
    if late or (not raced and any(_is_repeated(call, entry) for call in calls)):
        yield "it ran again after it had started side effects"
    most = 1 + (terms.max_retries if send.max_retries is None else send.max_retries)
    if terms.exhaustive:
        most = len({call.member for call in calls}) * (1 + terms.same_member_retries)
        if terms.stays:  # for the one that it prefers
            most += sum(call.move in (Move.RATE_LIMIT, Move.THROTTLED) for call in calls)
        # A stream that begins and fails all the same has beaten a rival, which counts for nothing.
        most += terms.hedging and send.is_stream
    most += entry.trials
    most *= max(1, terms.attempts_inside)
    if len(calls) > most:
        yield f"it ran {len(calls)} times, {most} are allowed"


def _is_repeated(call: Call, entry: Entry) -> bool:
    """Whether it has started side effects, and another one came after it. Not one that the pool had
    let begin before: an attempt that is given up may call an agent late, in a thread that was held
    up, or in a pool inside that has not heard of it. (There, side effects could not start.)
    """
    later = entry.calls[entry.calls.index(call) + 1 :]
    return bool(call.side_effects) and any(each.permitted >= call.permitted for each in later)


def _every_call_counts(entry: Entry, terms: Terms) -> Iterator[str]:
    """Where nothing cuts calls off: each failed call but the last was followed by another, and the
    last one decides.
    """
    if not is_undisturbed(entry, terms):
        return
    yield from _races_fairly(entry, terms)
    for call, following in pairwise(entry.calls):
        if decides(call) and not is_race(call, following, terms):
            yield f"it went on although {call.member} {call.end} ({call.move})"
    expected = {end for call in rivals(entry, terms) for end in _ends_after(call)}
    expected = expected or {End.FAILED, End.SATURATED}
    if not entry.is_tell and entry.end not in expected:
        yield f"it should have ended in {' or '.join(expected)}, and did in {entry.end}"


def is_undisturbed(entry: Entry, terms: Terms) -> bool:
    """Whether nothing but its agents has had a hand in the request, and none of them on trial. Of a
    stream that another member may start over, its calls alone do not tell how it must end: who was
    left when it broke off?
    """
    if entry.send.is_stream and terms.on_cut != "raise":
        return False
    unhurt = (
        terms.clear
        and not entry.trials
        and not terms.attempts_inside
        and entry.kills[0] == entry.kills[1]
        and not entry.cancel_asked
    )
    in_time = entry.end is not End.DEADLINE and entry.elapsed_s < terms.limit_s(entry) - ROUNDING_S
    left = End.LEFT in entry.heard
    return unhurt and in_time and not left and not _ran_out_of_time(entry)


def _ran_out_of_time(entry: Entry) -> bool:
    """Whether it was a stream that its deadline has broken off."""
    limit_s = entry.send.timeout_s or float("inf")
    return entry.send.has_chunks and entry.elapsed_s >= limit_s - ROUNDING_S


def decides(call: Call) -> bool:
    """Whether the request is over with this call, and no other can mend it."""
    if call.end is not CallEnd.RAISED or call.move is Move.CALLER or call.side_effects:
        return True
    return bool(those_that_count(call.chunks))


def is_race(call: Call, following: Call, terms: Terms) -> bool:
    """Whether the second may have been called while the first one had no answer. One that was on
    its way when the answer came is called all the same.
    """
    return terms.hedging and (following.began < call.over or decides(call))


def rivals(entry: Entry, terms: Terms) -> list[Call]:
    """The calls of which one has decided: the last one, or the two that raced; none was cut off."""
    calls = entry.calls
    last = [calls[-1]] if calls else []
    if len(calls) > 1 and is_race(calls[-2], calls[-1], terms):
        last.append(calls[-2])
    return [call for call in last if call.end is not CallEnd.CUT] or last


def _races_fairly(entry: Entry, terms: Terms) -> Iterator[str]:
    """Two calls at a time at most, once, and that only where it is allowed."""
    together = sum(
        following.began < call.over and not _is_beaten(call, following, entry)
        for call, following in pairwise(entry.calls)
    )
    hedged = terms.hedging and entry.send.idempotent and not entry.send.is_block
    most = 1 if hedged else 0
    if together > most:
        yield f"{together + 1} of its calls ran side by side, {most + 1} are allowed"


def _is_beaten(call: Call, following: Call, entry: Entry) -> bool:
    """Whether it is a rival that a stream has beaten which began, by chunks that do not count, and
    failed all the same. Such a rival has been told to end; what follows does not wait until it has.
    """
    return entry.send.is_stream and any(
        each.chunks and each.end is CallEnd.RAISED and call.began < each.over < following.began
        for each in entry.calls
        if each is not call
    )


def _ends_after(call: Call) -> tuple[End, ...]:
    if call.end is CallEnd.VALUE:
        return (End.VALUE,)
    if call.end is CallEnd.RAISED and those_that_count(call.chunks):
        return (End.INTERRUPTED,)
    return (End.CALLER,) if call.move is Move.CALLER else (End.FAILED,)

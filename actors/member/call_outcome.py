"""From the end of a call to the report that the router gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenroom.actors.executors.call import Call, CallPhase
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.nested_pool import InnerFailure
from greenroom.actors.reading.answer_judgement import auto, found_by, refusal_of
from greenroom.actors.reading.classify import Verdict, classify
from greenroom.actors.reading.error_access import is_a, look
from greenroom.actors.reading.stream_judge import StreamJudge
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import (
    AgentLostError,
    AttemptTimeoutError,
    MemberCrashedError,
    RemoteError,
    RequestCancelledError,
    ResourceError,
)
from greenroom.messages.execution import Failed, Refused, Succeeded
from greenroom.messages.pickling import fit_to_look_at
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason

if TYPE_CHECKING:
    from greenroom.actors.member.surroundings import Surroundings


def outcome_of(
    around: Surroundings,
    member: str,
    call: AttemptCall,
    value: Any,
    error: BaseException | None,
) -> Failed | Refused | None:
    """The report of a call that has failed, was given up, or never began; None of one that has
    brought what was asked for.
    """
    message, writer = call.message, call.writer
    if call.phase is CallPhase.DROPPED:
        lacking = isinstance(error, ResourceError)
        return Refused(
            member=member,
            incarnation=message.incarnation,
            request_id=message.request_id,
            attempt=message.attempt,
            reason=RefusalReason.NO_RESOURCES if lacking else RefusalReason.STOPPING,
            error=error,
        )
    elapsed_s = around.clock.now() - call.started_at
    error = None if error is None else fit_to_look_at(error)
    inner = error if isinstance(error, InnerFailure) else None
    error = error if inner is None else inner.error
    cut_off = writer is not None and writer.stopped and error is None
    verdict = _given_up(call, member, error, cut_off)
    if verdict is None and error is None and writer is None:
        error = refused(around.config, member, value, around.clock.wall(), call.collected)
    if verdict is None and error is None:
        return None
    if verdict is None:
        assert error is not None
        custom, wall_now = around.config.classify, around.clock.wall()
        known = None if inner is None else inner.kind
        verdict = error, classify(error, custom, wall_now=wall_now, known=known)
    return Failed(
        member=member,
        incarnation=message.incarnation,
        request_id=message.request_id,
        attempt=message.attempt,
        error=verdict[0],
        kind=verdict[1].kind,
        elapsed_s=elapsed_s,
        retry_after_s=verdict[1].retry_after_s,
        side_effects=call.side_effects,
        started=_has_begun(error) if inner is None else inner.started,
        opens_at_once=verdict[1].opens_at_once,
        same_member_may_mend=inner is None and verdict[1].same_member_may_mend,
        disconnected=verdict[1].disconnected,
        spent=call.spent,
    )


def _has_begun(error: BaseException | None) -> bool:
    """Whether the agent may have begun: it may know that it has not, where it was gone before, or
    would have begun elsewhere.
    """
    return not (is_a(error, (AgentLostError, RemoteError)) and look(error, "started") is False)


def succeeded(call: AttemptCall, member: str, value: Any, now: float) -> Succeeded:
    """The report of a call that has brought a value, or its stream to the end."""
    return Succeeded(
        member=member,
        incarnation=call.message.incarnation,
        request_id=call.message.request_id,
        attempt=call.message.attempt,
        value=value,
        elapsed_s=now - call.started_at,
        first_chunk_s=None if call.writer is None else call.writer.first_chunk_s,
        metadata=call.metadata,
        spent=call.spent,
    )


def _given_up(
    call: Call, member: str, error: BaseException | None, cut_off: bool
) -> tuple[BaseException, Verdict] | None:
    """What to report of a call that was cancelled or abandoned; None when it ended by itself.

    `cut_off`: it was a stream, and was closed because nobody wanted more of it.
    """
    # `started_side_effects` tells a call that was given up by a RequestCancelledError.
    ends = isinstance(error, RequestCancelledError) or not isinstance(error, Exception)
    stopped = call.cancelled is not None and error is not None and ends
    if call.phase is not CallPhase.ABANDONED and not stopped and not cut_off:
        return None
    return cut_off_by(member, call.cancelled)


def cut_off_by(member: str, reason: CancelReason | None) -> tuple[BaseException, Verdict]:
    """What to report of a call that has ended since it was to end, for that reason."""
    if reason is CancelReason.ATTEMPT_TIMEOUT:
        timeout = AttemptTimeoutError(f"{member} did not answer in time")
        return timeout, Verdict(FailureKind.TIMEOUT, None)
    if reason is CancelReason.STOPPING:
        crash = MemberCrashedError(f"{member} ended while it was working on the request")
        return crash, Verdict(FailureKind.CRASHED, None)
    if reason is CancelReason.LOOP_LOST:
        lost = MemberCrashedError(f"{member} lost its event loop, which another member blocked")
        return lost, Verdict(FailureKind.INTERRUPTED, None)
    if reason is CancelReason.LOOP_ENDED:
        ended = MemberCrashedError(f"{member} lost its event loop, which the app has ended")
        return ended, Verdict(FailureKind.INTERRUPTED, None)
    gone = RequestCancelledError(f"the call of {member} was cancelled: {reason}")
    return gone, Verdict(FailureKind.CANCELLED, None)


def refused(
    config: PoolConfig, member: str, value: Any, wall_now: float, collected: bool = False
) -> BaseException | None:
    """Why an answer is a failure by `PoolConfig.is_failure` and, if it was `collected` from a
    stream, by the rules for those; None if it is none.
    """
    is_failure = config.is_failure
    try:
        if collected:
            error = _of_chunks(config, member, value, wall_now)
            if error is not None:
                return error
        if is_failure is None:
            return None
        fault = auto(value) if not callable(is_failure) else found_by(is_failure, value)
    except BaseException as error:
        return error
    return None if fault is None else refusal_of(fault, value, member, wall_now)


def _of_chunks(
    config: PoolConfig, member: str, chunks: list[Any], wall_now: float
) -> BaseException | None:
    judge = StreamJudge(config)
    for chunk in chunks:
        judge.add(chunk)
        if judge.fault is not None:
            break
    judge.end()
    return None if judge.fault is None else judge.error(member, wall_now)

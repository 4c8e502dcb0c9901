"""From the end of a call to the report that the router gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenroom.actors.calls import Call, Phase
from greenroom.actors.classify import Verdict, classify
from greenroom.messages.errors import (
    AttemptTimeoutError,
    MemberCrashedError,
    RequestCancelledError,
    UnsuccessfulResultError,
)
from greenroom.messages.execution import Execute, Failed, Refused, Succeeded
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason

if TYPE_CHECKING:
    from greenroom.actors.member import Surroundings


def outcome_of(
    around: Surroundings,
    member: str,
    message: Execute,
    call: Call,
    value: Any,
    error: BaseException | None,
) -> Succeeded | Failed | Refused:
    """The report of a call that has ended, was given up, or never began."""
    if call.phase is Phase.DROPPED:
        return Refused(
            member=member,
            incarnation=message.incarnation,
            request_id=message.request_id,
            attempt=message.attempt,
            reason=RefusalReason.STOPPING,
            error=error,
        )
    elapsed_s = around.clock.now() - call.started_at
    verdict = _given_up(call, member, error)
    if verdict is None and error is None:
        error = _judge(around, member, value)
    if verdict is None and error is None:
        return Succeeded(
            member=member,
            incarnation=message.incarnation,
            request_id=message.request_id,
            attempt=message.attempt,
            value=value,
            elapsed_s=elapsed_s,
        )
    if verdict is None:
        assert error is not None
        verdict = error, classify(error, around.config.classify, wall_now=around.clock.wall())
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
    )


def _given_up(
    call: Call, member: str, error: BaseException | None
) -> tuple[BaseException, Verdict] | None:
    """What to report of a call that was cancelled or abandoned; None when it ended by itself."""
    # `started_side_effects` tells a call that was given up by a RequestCancelledError.
    ends = isinstance(error, RequestCancelledError) or not isinstance(error, Exception)
    stopped = call.cancelled is not None and error is not None and ends
    if call.phase is not Phase.ABANDONED and not stopped:
        return None
    if call.cancelled is CancelReason.ATTEMPT_TIMEOUT:
        timeout = AttemptTimeoutError(f"{member} did not answer in time")
        return timeout, Verdict(FailureKind.TIMEOUT, None)
    if call.cancelled is CancelReason.STOPPING:
        crash = MemberCrashedError(f"{member} ended while it was working on the request")
        return crash, Verdict(FailureKind.CRASHED, None)
    gone = RequestCancelledError(f"the call of {member} was cancelled: {call.cancelled}")
    return gone, Verdict(FailureKind.CANCELLED, None)


def _judge(around: Surroundings, member: str, value: Any) -> BaseException | None:
    is_failure = around.config.is_failure
    if is_failure is None:
        return None
    try:
        if not is_failure(value):
            return None
    except BaseException as error:
        return error
    return UnsuccessfulResultError(
        f"{member} returned a {type(value).__name__} that is_failure refused"
    )

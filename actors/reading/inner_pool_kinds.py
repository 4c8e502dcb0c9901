"""What the failure of every member of an inner pool says of that pool as a member. Pure."""

from __future__ import annotations

from greenroom.messages.errors import AllPoolMembersFailedError, AttemptError, ResourceError
from greenroom.messages.status import FailureKind, SkipReason

_PASSED_ON = frozenset({
    FailureKind.TIMEOUT, FailureKind.RATE_LIMITED, FailureKind.AUTH, FailureKind.QUOTA,
    FailureKind.NOT_FOUND,
})  # fmt: skip
_OUT_FOR_LONGER = frozenset({
    SkipReason.CIRCUIT_OPEN, SkipReason.COOLING_DOWN, SkipReason.STARTING, SkipReason.DRAINING,
    SkipReason.GAVE_UP, SkipReason.HEADROOM, SkipReason.UNREACHABLE,
})  # fmt: skip


def kind_of_pool(error: AllPoolMembersFailedError) -> FailureKind:
    """The kind that all of its members have in common, where it holds for a pool; else unavailable.

    A member that cools down or lacks headroom counts as rate limited; where none of them can ever
    have headroom for the request, that is too large. Any other that was skipped might have done
    better, so it forbids `auth` and `quota`, which open a breaker at once. It does not forbid
    `too_large`: that is the request's fault, and must not count against the pool. What failed alike
    on all that had it, in a way that nobody knows, is as unknown here: the pool around can find out
    that it is the request's fault, too.
    """
    tried = [each for each in error.errors if not each.skipped]
    if {each.kind for each in tried} == {FailureKind.TOO_LARGE}:
        return FailureKind.TOO_LARGE
    never = error.retry_after_s is None and bool(error.errors)
    if never and all(each.kind is SkipReason.HEADROOM for each in error.errors):
        return FailureKind.TOO_LARGE
    if tried and all(_lacks(each.error) for each in tried):
        return FailureKind.INTERRUPTED
    if error.same_everywhere and FailureKind.UNKNOWN in {e.kind for e in error.errors}:
        return FailureKind.UNKNOWN
    cooling = (SkipReason.COOLING_DOWN, SkipReason.HEADROOM)
    throttled = FailureKind.RATE_LIMITED
    kinds = {throttled if each.kind in cooling else each.kind for each in error.errors}
    return next((kind for kind in _PASSED_ON if kinds == {kind}), FailureKind.UNAVAILABLE)


def wait_of_pool(error: AllPoolMembersFailedError) -> float | None:
    """Seconds until its first member may be back; None where one might answer any moment."""
    if not all(_is_out(each) for each in error.errors):
        return None
    waits = (error.retry_after_s, *(each.retry_after_s for each in error.errors))
    return min((wait for wait in waits if wait is not None), default=None)


def _lacks(error: BaseException | None) -> bool:
    """Whether a member failed for want of what the machine should give, or a pool's all did."""
    if not isinstance(error, AllPoolMembersFailedError):
        return isinstance(error, ResourceError)
    return kind_of_pool(error) is FailureKind.INTERRUPTED


def _is_out(error: AttemptError) -> bool:
    """Whether the member is known to take nothing for a while."""
    return error.kind in _OUT_FOR_LONGER or error.retry_after_s is not None

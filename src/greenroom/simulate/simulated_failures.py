"""What a simulated member's failures look like to the pool: errors as clients raise them, read by
the rules that read real ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from greenroom.actors.reading.classify import Verdict, classify
from greenroom.messages.config import Classifier
from greenroom.messages.errors import MemberCrashedError, ResourceError
from greenroom.messages.status import FailureKind
from greenroom.testing.scripted_errors import http_error

STATUS: Mapping[FailureKind, int] = {
    FailureKind.UNAVAILABLE: 503,
    FailureKind.RATE_LIMITED: 429,
    FailureKind.AUTH: 401,
    FailureKind.QUOTA: 402,
    FailureKind.NOT_FOUND: 404,
    FailureKind.TOO_LARGE: 413,
    FailureKind.CALLER: 400,
}
"""How HTTP clients say so."""

OTHERS: Mapping[FailureKind, type[Exception]] = {
    FailureKind.TIMEOUT: TimeoutError,
    FailureKind.CRASHED: MemberCrashedError,
    FailureKind.INTERRUPTED: ResourceError,
}
"""What is raised where no server has answered. Anything else is an error that says nothing."""


def failures(
    custom: Classifier | None,
) -> Callable[[FailureKind, float | None], tuple[Exception, Verdict]]:
    """What makes an error of a kind, with the seconds that its header asks for or None without one,
    and says what it is found to be. Each is made once in a run: what it says does not change.

    Args:
        custom: `PoolConfig.classify`.
    """

    @functools.cache
    def failure(kind: FailureKind, retry_after_s: float | None) -> tuple[Exception, Verdict]:
        error = error_of(kind, retry_after_s)
        return error, classify(error, custom)

    return failure


def error_of(kind: FailureKind, retry_after_s: float | None = None) -> Exception:
    """What a client would raise."""
    status = STATUS.get(kind)
    if status is not None:
        return http_error(status, retry_after_s)
    return OTHERS.get(kind, ValueError)("simulated")

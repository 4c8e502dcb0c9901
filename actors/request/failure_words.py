"""What the log says of a request that failed, beside the error itself: of whom, and what to do.

Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from typing import TypedDict

from greenroom.actors.request.job import Job
from greenroom.actors.request.logged_metadata import logged_metadata
from greenroom.messages import advice
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    PoolStoppedError,
    StrategyError,
    StreamInterruptedError,
)
from greenroom.messages.status import FailureKind

MOST_NAMED = 8
"""So many members a line names; of the others it says how many they are."""

_TELLS = "whoever asked has the error"
_NOBODY = "nobody asked for an answer"


class Words(TypedDict, total=False):
    """Fields of a `RequestExhausted`."""

    skipped: tuple[str, ...]
    tried: tuple[str, ...]
    advice: str
    metadata: tuple[str, ...]


NOTHING = Words()


def told(job: Job, error: BaseException) -> Words:
    """All that is said of a request that failed by that error."""
    return Words(
        skipped=skipped(error),
        tried=tried(job),
        advice=advised(job, error),
        metadata=logged_metadata(job),
    )


def skipped(error: BaseException) -> tuple[str, ...]:
    """Each member that was not asked, and why, of a request that failed by that error."""
    if not isinstance(error, AllPoolMembersFailedError | DeadlineExceededError):
        return ()
    return named([each for each in error.errors if each.skipped])


def tried(job: Job) -> tuple[str, ...]:
    """Each member that has failed a request, and the kind of its last failure."""
    return named(job.failures.values())


def named(errors: Collection[AttemptError], of: int | None = None) -> tuple[str, ...]:
    """Members by name, each with what became of it, in a few words.

    Args:
        of: how many there are of them; None: as many as there are errors.
    """
    few = tuple(_words(each) for each in itertools.islice(errors, MOST_NAMED))
    more = (len(errors) if of is None else of) - len(few)
    return (*few, f"and {more} more") if more > 0 else few


def _words(error: AttemptError) -> str:
    detail = error.detail
    if not error.skipped and error.attempts > 1:
        detail = f"{error.attempts} attempts"
    return f"{error.member} {error.kind}" + (f" ({detail})" if detail else "")


def advised(job: Job, error: BaseException) -> str:
    """What comes next for a request that failed, and what is to be done."""
    what = _what_to_do(job, error)
    after = _NOBODY if job.future is None else _TELLS
    return f"{after}; {what}" if what else after


def _what_to_do(job: Job, error: BaseException) -> str:
    match error:
        case AllPoolMembersFailedError():
            return _where_all_failed(job, error)
        case DeadlineExceededError() if job.failures:
            return "give it more time (timeout), or each attempt less (request_timeout_s)"
        case DeadlineExceededError() if job.attempts:
            return "give it more time (timeout), or see why its member is slow"
        case DeadlineExceededError():
            return "no member took it in time: give it more (timeout), or add members or slots"
        case StreamInterruptedError() if job.policy.config.on_cut == "raise":
            return 'ask again, or have others start over by PoolConfig(on_cut="restart")'
        case StreamInterruptedError():
            return advice.SEE_ITS_FAILURES
        case PoolStoppedError():
            return "drain the pool for longer before it is stopped"
        case StrategyError():
            return "mend the strategy"
    return ""  # it says so itself


def _where_all_failed(job: Job, error: AllPoolMembersFailedError) -> str:
    if not error.member_names:
        return "add a member"
    if error.same_everywhere:
        return "look at the request, which no member could do"
    kinds = _kinds(job.failures.values())
    if len(kinds) == 1:
        return advice.of_kind(kinds.pop())
    if kinds:
        return advice.SEE_ITS_FAILURES
    if error.retry_after_s is not None:
        wait = "" if job.policy.config.when_unavailable == "wait" else ", or have requests wait"
        return f"ask again in {error.retry_after_s:.1f} s{wait}" + (
            ' by PoolConfig(when_unavailable="wait")' if wait else ""
        )
    return "see why its members are out: their last lines say so"


def _kinds(errors: Iterable[AttemptError]) -> set[FailureKind]:
    return {each.kind for each in errors if isinstance(each.kind, FailureKind)}

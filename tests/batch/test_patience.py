"""What follows when nobody takes a prompt."""

from __future__ import annotations

import pytest

from greenroom import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    FailureKind,
    PoolSaturatedError,
    ResourceError,
    SkipReason,
)
from greenroom.batch.patience import Patience, turned_away


def failed(*kinds: FailureKind | SkipReason, retry_after_s: float | None = None) -> Exception:
    errors = [AttemptError(str(at), at, kind) for at, kind in enumerate(kinds)]
    return AllPoolMembersFailedError("p", map(str, range(3)), errors, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    "error",
    [
        PoolSaturatedError("p", 1, 1.0),
        ResourceError("no thread"),
        failed(),
        failed(SkipReason.CIRCUIT_OPEN, SkipReason.COOLING_DOWN),
        failed(FailureKind.RATE_LIMITED, SkipReason.CIRCUIT_OPEN),
    ],
    ids=repr,
)
def test_who_came_too_soon_is_turned_away(error: Exception) -> None:
    """No member has begun with it, or each that has was limiting its rate."""
    assert turned_away(error)


@pytest.mark.parametrize(
    "error",
    [
        failed(FailureKind.UNAVAILABLE, SkipReason.CIRCUIT_OPEN),
        failed(FailureKind.CALLER),
        failed(FailureKind.AUTH),
        DeadlineExceededError("p", 1.0),
        ValueError("x"),
    ],
    ids=repr,
)
def test_who_was_tried_has_failed(error: Exception) -> None:
    """Whatever comes of a second try is another matter."""
    assert not turned_away(error)


def test_it_waits_as_long_as_it_is_told() -> None:
    """Within bounds; a second where nobody says."""
    patience = Patience(wait_s=60.0, now=100.0)
    assert patience.until <= 100.0
    for wish, pause in [(None, 1.0), (2.5, 2.5), (0.0, 0.05), (3_600.0, 30.0)]:
        patience = Patience(wait_s=60.0, now=100.0)
        assert patience.sent_back(failed(retry_after_s=wish), 100.0)
        assert patience.until == 100.0 + pause
    patience.sent_back(failed(retry_after_s=1.0), 101.0)
    assert patience.until == 130.0


def test_fewer_are_asked_after_some_were_turned_away() -> None:
    """Half as many, once for all that were asked together; one more with each answer."""
    patience = Patience(wait_s=60.0, now=0.0)
    for under_way in range(99, -1, -1):
        patience.sent_back(failed(), 1.0, under_way)
    assert patience.room == 49
    patience.answered()
    assert patience.room == 50
    patience.sent_back(failed(), 2.0, 0)
    assert patience.room == 1


def test_it_ends_when_nothing_is_answered_for_long() -> None:
    """Each answer has it begin anew."""
    patience = Patience(wait_s=60.0, now=0.0)
    assert patience.sent_back(failed(), 1.0)
    assert patience.sent_back(failed(), 60.9)
    patience.answered()
    assert patience.sent_back(failed(), 61.0)
    assert patience.sent_back(failed(), 120.9)
    assert not patience.sent_back(failed(), 121.0)

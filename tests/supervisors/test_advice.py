"""What a breaker that opens, and a member that is given up, say is to be done."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import AllPoolMembersFailedError, FailureKind, Member, Request
from greenroom.events import BreakerOpened, MemberGaveUp
from greenroom.messages import advice
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (http_error(401), FailureKind.AUTH),
        (http_error(503), FailureKind.UNAVAILABLE),
        (TimeoutError(), FailureKind.TIMEOUT),
    ],
    ids=["auth", "unavailable", "timeout"],
)
def test_b383_a_breaker_that_opens_says_what_to_do(
    error: Exception, kind: FailureKind, greenroom_events: EventRecorder
) -> None:
    """By the kind of failure that has opened it; when it is tried again is said before."""
    config: dict[str, Any] = {"circuit_failure_threshold": 1, "max_retries": 0}
    members = [Member("a", ScriptedAgent.failing(9, error)), Member("b", len, priority=1)]
    with pool_of(*members, clock=FakeClock(), **config) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.ask(Request("x", only="a"), timeout=WAIT_S)
        opened = greenroom_events.wait_for(BreakerOpened, "a")
    assert opened.advice == advice.of_kind(kind)
    assert f" s; {advice.of_kind(kind)}" in opened.describe()


def test_b383_one_that_was_opened_by_hand_says_what_ends_that(
    greenroom_events: EventRecorder,
) -> None:
    with pool_of(Member("a", len), Member("b", len)) as pool:
        pool.force_open("a")
        opened = greenroom_events.wait_for(BreakerOpened, "a")
    assert opened.describe() == (
        "breaker opened: forced by hand; stays open until it is reset; "
        "pool.reset_member('a') ends that"
    )


def test_b383_who_is_given_up_comes_back_by_hand() -> None:
    event = MemberGaveUp(pool="p", member="a", restarts=3, period_s=60, error="E: no")
    assert event.describe().endswith("mend what ends it, then pool.reset_member('a')")

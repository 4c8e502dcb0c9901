"""A client that retries by itself multiplies what the pool does: a hint, once a member."""

from __future__ import annotations

import io

import pytest
from helpers_pools import pool_of, ranked

import greenroom
from greenroom import AllPoolMembersFailedError, FailureKind
from greenroom.actors.policy.client_retries import ClientRetries
from greenroom.testing import AsyncScriptedAgent, FakeClock, ScriptedAgent, http_error

RATE_LIMITED, UNAVAILABLE = FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE


class TestRule:
    @pytest.mark.parametrize("kind", [RATE_LIMITED, UNAVAILABLE])
    def test_a_refusal_that_took_as_long_as_several_is_suspect(self, kind: FailureKind) -> None:
        """More than a second, and more than three usual answers."""
        assert ClientRetries().suspects("a", kind, 1.6, 0.5)

    @pytest.mark.parametrize(
        ("elapsed_s", "usual_s"), [(1.0, 0.1), (1.5, 0.5), (30.0, 10.0), (0.9, 0.0), (30.0, None)]
    )
    def test_a_quick_refusal_is_not(self, elapsed_s: float, usual_s: float | None) -> None:
        """At the bounds nothing is said, and nothing without an answer to compare with."""
        assert not ClientRetries().suspects("a", UNAVAILABLE, elapsed_s, usual_s)

    @pytest.mark.parametrize("kind", sorted(set(FailureKind) - {RATE_LIMITED, UNAVAILABLE}))
    def test_other_failures_are_not(self, kind: FailureKind) -> None:
        """A timeout takes long by its nature, and a 400 is not retried."""
        assert not ClientRetries().suspects("a", kind, 60.0, 0.1)

    def test_each_member_is_suspected_once(self) -> None:
        """The second time nothing is said of it, but of another."""
        rule = ClientRetries()
        said = [rule.suspects(member, UNAVAILABLE, 9.0, 1.0) for member in ("a", "a", "b", "a")]
        assert said == [True, False, True, False]


@pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
def test_the_hint_is_logged_once_for_each_member(kind: type[ScriptedAgent]) -> None:
    """It names pool, member, both times and the page; a second slow failure says nothing more."""
    clock, sink = FakeClock(), io.StringIO()

    def three_tries(_: object) -> None:
        clock.advance(2.5)
        raise http_error(503)

    off = greenroom.log("WARNING", sink=sink)
    try:
        with pool_of(
            *ranked(a=kind(["answer", three_tries, three_tries])),
            clock=clock,
            circuit_failure_threshold=10,
            max_retries=0,
        ) as pool:
            assert pool.execute("one") == "answer"
            for _ in range(2):
                with pytest.raises(AllPoolMembersFailedError):
                    pool.execute("two")
    finally:
        off()
    hints = [line for line in sink.getvalue().splitlines() if "retry by itself" in line]
    assert len(hints) == 1
    for part in ("'pool'", "'a'", "2.5 s", "unavailable", "0.0 s", "docs/clients.md"):
        assert part in hints[0]

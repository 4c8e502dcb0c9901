"""The rules of `greenroom doctor`, each at its limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from greenroom.actors.policy.client_retries import HINT
from greenroom.actors.strategies import strategy_for
from greenroom.doctor.findings import Finding, findings, not_checked
from greenroom.doctor.pool_history import Histories, PoolHistory
from greenroom.messages.status import FailureKind, LoadBalanceStrategy

DOCS = Path(__file__).parents[2]


def history(lines: Iterable[dict[str, Any]]) -> PoolHistory:
    histories = Histories()
    for line in lines:
        histories.take({"pool": "p", **line})
    (pool,) = histories
    return pool


def started(strategy: str = "adaptive", timeout_s: float | None = 30.0) -> dict[str, Any]:
    return {"event": "pool.started", "strategy": strategy, "request_timeout_s": timeout_s}


def member(name: str, **declared: Any) -> dict[str, Any]:
    return {"event": "member.started", "member": name, **declared}


def answers(name: str, count: int, elapsed_s: float = 0.5) -> list[dict[str, Any]]:
    return [{"event": "attempt.succeeded", "member": name, "elapsed_s": elapsed_s}] * count


def failures(
    name: str, count: int, kind: str = "unavailable", elapsed_s: float = 0.1
) -> list[dict[str, Any]]:
    failed = {"event": "attempt.failed", "member": name, "kind": kind, "elapsed_s": elapsed_s}
    return [{**failed, "error": "E: no"}] * count


def found(*lines: Any) -> list[Finding]:
    flat: list[dict[str, Any]] = []
    for each in (started(), *lines):
        flat += [each] if isinstance(each, dict) else each
    return findings(history(flat))


def rules(*lines: Any) -> list[str]:
    return [each.rule for each in found(*lines)]


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 10**400, -(10**400)])
def test_numbers_that_no_pool_has_are_left_out(number: float) -> None:
    """Python reads them as JSON: they are as if nothing had been said."""
    lines = [
        started(timeout_s=number),
        member("a", weight=number, priority=number, cost=number),
        {"event": "pool.configured", "changes": "a: priority 0 -> 1e999"},
        *failures("a", 9, "timeout", number),
        *answers("a", 9, number),
    ]
    pool = history(lines)
    (known,) = pool.members.values()
    assert (known.weight, known.priority, known.cost) == (1.0, 0, 0.0)
    assert pool.request_timeout_s is None
    assert findings(pool) == []


# -- failures of one kind


@pytest.mark.parametrize("kind", ["auth", "quota", "not_found", "too_large"])
def test_b394_five_failures_of_a_kind_that_lasts(kind: str) -> None:
    """Four are too few, and one of another kind makes it another matter."""
    assert rules(failures("a", 5, kind)) == ["one-kind"]
    assert rules(failures("a", 4, kind)) == []
    assert rules(failures("a", 9, kind), failures("a", 1)) == []
    assert rules(failures("a", 9, kind), failures("a", 1, "interrupted")) == ["one-kind"]


def test_b394_a_factory_that_fails_each_time() -> None:
    """Its failures are events of their own."""
    line = {"event": "member.create_failed", "member": "a", "error": "KeyError: 'KEY'"}
    (finding,) = found([line] * 5)
    assert finding.seen == "5 of 5 failures; the first said: KeyError: 'KEY'"


def test_b394_throttling_is_one_where_it_is_much() -> None:
    """More than one call in twenty, and more than a few."""
    refused = failures("a", 20, "rate_limited")
    assert rules(answers("a", 300), refused) == ["one-kind"]
    assert rules(answers("a", 500), refused) == []


def test_b394_an_outage_is_none() -> None:
    """Where it has answered, or nobody has, or the log does not say."""
    down = failures("a", 50)
    assert rules(answers("a", 1), answers("b", 1), down) == []
    assert rules(down, answers("b", 1)) == ["one-kind"]
    assert rules(down) == []


# -- a client that retries


def test_b394_refusals_that_take_longer_than_three_answers() -> None:
    """And than a second; five of them, and most of all."""
    well = answers("a", 20)
    other = failures("a", 1, "timeout")
    assert rules(well, failures("a", 5, elapsed_s=1.6), other) == ["client-retries"]
    assert rules(well, failures("a", 4, elapsed_s=1.6), other) == []
    assert rules(well, failures("a", 5, elapsed_s=1.4), other) == []
    assert rules(well, failures("a", 5, elapsed_s=1.6), failures("a", 5)) == []
    assert rules(answers("a", 9), failures("a", 5, elapsed_s=9.0), other) == []


def test_b512_a_line_that_is_made_to_be_long_is_not_looked_through() -> None:
    """A hint of a pool's is short: what is behind that is none of it."""
    histories = Histories()
    begun = "pool 'p': member 'a' took 9 s to fail with "
    said = f"{begun}{'x' * 10_000} usually takes 1 s to answer: its client seems to retry by itself"
    histories.take({"event": "log", "message": begun * 100_000})
    histories.take({"event": "log", "message": said})
    assert not list(histories)


def test_b394_what_the_pool_has_suspected_itself_is_enough() -> None:
    """It says so at any level, and here there is no more than that."""
    said = HINT.format(pool="p", member="a", kind="unavailable", elapsed_s=6.0, usual_s=0.5)
    (finding,) = found({"event": "log", "message": said})
    assert (finding.rule, finding.members) == ("client-retries", ("a",))
    assert finding.seen == "a refusal took 6.0 s, an answer 0.5 s"


# -- a limit that is too short


def cut_among(count: int, between: int) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for _ in range(count):
        lines += answers("a", between) + failures("a", 1, "timeout", 30.0)
    return lines + answers("a", 1)


def test_b394_more_than_one_call_in_twenty_is_cut_between_good_ones() -> None:
    """Those of an outage follow upon one another, and do not count."""
    (finding,) = found(cut_among(10, 10))
    assert finding.rule == "short-timeout"
    assert finding.seen.startswith("10 of 111 calls (9%) were cut after 30 s")
    assert rules(cut_among(10, 30)) == []
    assert rules(cut_among(5, 10)) == []
    assert rules(answers("a", 10), failures("a", 50, "timeout", 30.0), answers("a", 10)) == []


def test_b394_a_limit_that_has_changed_is_the_one_that_is_named() -> None:
    """What was configured while the pool ran holds."""
    changed = {"event": "pool.configured", "changes": "request_timeout_s 30.0 -> 2.5"}
    (finding,) = found(changed, cut_among(10, 10))
    assert "after 2.5 s" in finding.seen


# -- who is never used


def test_b394_who_has_nothing_of_a_hundred_attempts() -> None:
    """Unless it is kept out, or the strategy keeps it for later."""
    a, b = member("a"), member("b")
    assert rules(a, b, answers("a", 100)) == ["never-used"]
    assert rules(a, b, answers("a", 99)) == []
    assert rules(started("failover"), a, b, answers("a", 100)) == []
    reserve = member("b", priority=1)
    assert rules(started("priority"), a, reserve, answers("a", 100)) == []
    assert rules(started("cheapest"), a, member("b", cost=2.0), answers("a", 100)) == []
    forced = {"event": "breaker.opened", "member": "b"}
    assert rules(a, b, forced, answers("a", 100)) == []


def test_b394_without_debug_nobody_knows_who_is_used() -> None:
    """That is said, in place of a guess."""
    pool = history([started(), member("a"), member("b"), *failures("a", 200)])
    assert [each.rule for each in findings(pool)] == []
    assert not_checked(pool)[0].endswith("the log has no DEBUG lines")


# -- what the strategy does not read


@pytest.mark.parametrize("strategy", list(LoadBalanceStrategy))
def test_b394_weights_that_the_strategy_does_not_go_by(strategy: LoadBalanceStrategy) -> None:
    """Its documentation says which do."""
    lines = (started(strategy.value), member("a", weight=2.0), member("b"))
    reads = "weight" in (type(strategy_for(strategy)).__doc__ or "").lower()
    assert rules(*lines) == ([] if reads else ["unread-values"])
    assert rules(started("MyOwn"), *lines[1:]) == []


@pytest.mark.parametrize(("what", "strategy"), [("priority", "priority"), ("cost", "cheapest")])
def test_b394_priorities_and_costs_likewise(what: str, strategy: str) -> None:
    lines = (member("a", **{what: 2}), member("b", **{what: 1}))
    (finding,) = found(*lines)
    assert finding.seen == "a 2, b 1"
    assert finding.change.startswith(f'strategy="{strategy}"')
    assert rules(started(strategy), *lines) == []


def test_b394_weights_that_have_changed_count() -> None:
    changed = {"event": "pool.configured", "changes": "a: weight 1.0 -> 2.0, b: cost 0.0 -> 1.0"}
    assert [each.members for each in found(member("a"), member("b"), changed)] == [("a", "b")] * 2


def test_b394_every_page_is_there() -> None:
    """That a finding names."""
    a, b = member("a", weight=2.0), member("b")
    seen = found(a, b, answers("a", 100), failures("a", 5, elapsed_s=5.0), cut_among(40, 10))
    seen += found(failures("a", 5, FailureKind.AUTH.value))
    assert {each.rule for each in seen} == {
        "client-retries",
        "never-used",
        "one-kind",
        "short-timeout",
        "unread-values",
    }
    for each in seen:
        assert (DOCS / each.page).is_file()

"""The simulation: members, faults, load, what the pool makes of them, and what is counted."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import LoadBalanceStrategy, PoolConfig
from greenroom.messages import FailureKind
from greenroom.simulate import Load, MemberSpec, Result, Scenario, simulate
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.faults import Effect, Failing, Fault, Hanging, RateLimit, Slow, Trouble
from greenroom.simulate.latency import Constant, Exponential, Latency, LogNormal, Normal, latency_of
from greenroom.simulate.simulated_failures import failures
from greenroom.simulate.tally import quantile

STRATEGIES = [each.value for each in LoadBalanceStrategy]
SECOND = Constant(1.0)
CREATE_FAILED = FailureKind.CREATE_FAILED


def member(name: str = "a", *faults: Fault, latency: Latency = SECOND, **more: Any) -> MemberSpec:
    return MemberSpec(name=name, latency=latency, faults=faults, **more)


def always(trouble: Trouble) -> Fault:
    return Fault(trouble, 0.0, 1e9)


def play(
    *members: MemberSpec,
    load: Load | None = None,
    strategy: str = "least_outstanding",
    duration_s: float = 10.0,
    config: dict[str, Any] | None = None,
    **more: Any,
) -> Result:
    scenario = Scenario(
        name="test",
        members=members,
        load=load or Load(callers=1, think_s=1.0),
        duration_s=duration_s,
        config=PoolConfig(**(config or {})),
        **more,
    )
    return simulate(scenario, strategy)


def troubled() -> Scenario:
    """A bit of everything that can go wrong, with more load than there is room for."""
    lognormal = LogNormal.of_mean(1.0, 1.0)
    members = (
        member("slow", Fault(Slow(factor=8.0), 20, 60), latency=lognormal, concurrency=3),
        member("fails", Fault(Failing(0.6, 0.01), 10, 50), latency=lognormal, concurrency=2),
        member("hangs", Fault(Hanging(0.3), 30, 70), latency=lognormal, concurrency=2, speed=2),
        member("limits", always(RateLimit(0.5, 3, 2.0)), latency=lognormal, servers=1),
        member("refuses", Fault(Failing(0.2, 0, FailureKind.CALLER), 0, 40), latency=SECOND),
    )
    config = PoolConfig(request_timeout_s=4.0, deadline_s=9.0, max_pending=15)
    load = Load(utilisation=1.1, backlog=10)
    return Scenario(name="troubled", members=members, load=load, duration_s=100, config=config)


# -- all of it


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_seeds_give_equal_results(strategy: str) -> None:
    """A result is a matter of scenario, strategy and seed alone."""
    assert simulate(troubled(), strategy) == simulate(troubled(), strategy)
    assert simulate(troubled(), strategy, 2) != simulate(troubled(), strategy, 3)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_request_is_lost(strategy: str) -> None:
    """Arrived are those answered, refused and failed, whatever goes wrong."""
    result = simulate(troubled(), strategy)
    assert result.arrived == result.answered + result.refused + sum(result.failed.values())
    assert result.within <= result.answered
    assert min(result.answered, result.refused, *result.failed.values()) > 0
    assert set(result.failed) <= {*FailureKind, "deadline", "no_member"}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    strategy=st.sampled_from(STRATEGIES),
    timeout_s=st.sampled_from([None, 2.0]),
    deadline_s=st.sampled_from([None, 3.0]),
    waits=st.booleans(),
    load=st.sampled_from([Load(rate_per_s=6), Load(callers=12), Load(rate_per_s=1, backlog=20)]),
)
def test_no_request_is_lost_in_any_pool(
    seed: int,
    strategy: str,
    timeout_s: float | None,
    deadline_s: float | None,
    waits: bool,
    load: Load,
) -> None:
    """Timeouts, deadlines, open breakers and callers: the count always comes out."""
    config = PoolConfig(
        request_timeout_s=timeout_s,
        deadline_s=deadline_s,
        when_unavailable="wait" if waits else "fail",
        circuit_reset_timeout_s=2.0,
    )
    scenario = troubled().replace(config=config, load=load, duration_s=30.0)
    result = simulate(scenario, strategy, seed)
    assert result.arrived == result.answered + result.refused + sum(result.failed.values())
    assert result.arrived > 0


def test_the_same_requests_arrive_whatever_the_strategy() -> None:
    """So that strategies differ by what they do and not by luck."""
    assert len({simulate(troubled(), each).arrived for each in STRATEGIES}) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_short_cut_changes_nothing(strategy: str) -> None:
    """Successes that are reported one by one are worth the same as those reported together."""
    scenario = troubled()
    never_slow = scenario.config.replace(circuit_slow_rate=1.0, circuit_slow_call_s=1e9)
    assert simulate(scenario.replace(config=never_slow), strategy) == simulate(scenario, strategy)


def test_an_unknown_strategy_is_an_error() -> None:
    """By the name it was given."""
    with pytest.raises(ValueError, match="got 'best'"):
        simulate(troubled(), "best")


# -- members


def test_a_faster_member_takes_less_time() -> None:
    """Speed 4: a quarter of a second for what takes a second."""
    assert play(member(speed=4.0)).max_s == pytest.approx(0.25)


def test_calls_wait_in_a_member_that_has_fewer_servers() -> None:
    """First come, first served; the pool sees them as calls in flight."""
    result = play(member(concurrency=3, servers=1), load=Load(rate_per_s=1e-9, backlog=3))
    assert (result.p50_s, result.max_s, result.mean_s) == (2.0, 3.0, 2.0)


def test_calls_wait_in_the_pool_when_members_are_full() -> None:
    """What does not fit in the queue is refused."""
    result = play(
        member(concurrency=2), load=Load(rate_per_s=1e-9, backlog=7), config={"max_pending": 3}
    )
    assert (result.answered, result.refused, result.max_s) == (5, 2, 3.0)


def test_a_cancelled_call_makes_room_for_the_next() -> None:
    """In a member with a queue of its own, the one that waits there is served when one is cut."""
    hang = Fault(Hanging(), 0.0, 1.0)
    result = play(
        member("a", hang, concurrency=2, servers=1),
        load=Load(rate_per_s=1e-9, backlog=2),
        config={"request_timeout_s": 3.0, "max_retries": 0, "deadline_s": 2.5},
    )
    assert result.failed == {"deadline": 2}
    patient = play(
        member("a", hang, concurrency=2, servers=1),
        load=Load(rate_per_s=1e-9, backlog=1),
        config={"request_timeout_s": 3.0},
    )
    assert (patient.answered, patient.calls["a"]) == (1, 2)


@pytest.mark.parametrize(
    ("latency", "mean"),
    [
        (Constant(2.0), 2.0),
        (Normal(2.0, 0.3), 2.0),
        (Exponential(2.0), 2.0),
        (LogNormal.of_mean(2.0, 0.7), 2.0),
        (LogNormal(2.0, 0.7), 2.0 * math.exp(0.245)),
    ],
    ids=repr,
)
def test_a_distribution_has_the_mean_that_it_states(latency: Latency, mean: float) -> None:
    """Within 3% over 20,000 draws, none of them negative."""
    draw = latency.drawn_with(random.Random(7))
    draws = [draw() for _ in range(20_000)]
    assert latency.mean_s == pytest.approx(mean)
    assert statistics.fmean(draws) == pytest.approx(mean, rel=0.03)
    assert min(draws) >= 0


def test_median_and_sigma_of_the_distributions() -> None:
    """A lognormal's median is what it is made of, a normal's sigma is in seconds."""
    draw = LogNormal(3.0, 1.0).drawn_with(random.Random(1))
    draws = sorted(draw() for _ in range(20_001))
    assert draws[10_000] == pytest.approx(3.0, rel=0.03)
    bell = Normal(2.0, 0.3).drawn_with(random.Random(1))
    assert statistics.stdev(bell() for _ in range(20_000)) == pytest.approx(0.3, rel=0.03)
    wide = Normal(0.1, 5.0).drawn_with(random.Random(1))
    assert min(wide() for _ in range(9)) == 0.0


def test_a_distribution_is_named_by_its_values() -> None:
    """A lognormal comes with its mean or with its median."""
    of_mean = latency_of("lognormal", {"mean_s": 5.0, "sigma": 1.0})
    of_median = latency_of("lognormal", {"median_s": 5.0, "sigma": 1.0})
    assert (of_mean.mean_s, of_median.mean_s) == pytest.approx((5.0, 5.0 * math.exp(0.5)))


# -- faults


def test_a_fault_befalls_what_begins_while_it_lasts() -> None:
    """Ten callers in turn, one second each: those of seconds 4 to 8 take five times as long."""
    slow = Fault(Slow(factor=5.0), 4.0, 8.0)
    result = play(
        member("a", slow, servers=1, concurrency=9), load=Load(rate_per_s=1e-9, backlog=6)
    )
    assert result.max_s == 4 + 5 + 1  # the fifth begins at 4 s, the sixth at 9 s


def test_a_slow_member_can_have_another_distribution() -> None:
    """Instead of its own, and whatever its speed."""
    slow = always(Slow(latency=Constant(7.0)))
    assert play(member("a", slow, speed=2.0)).p50_s == 7.0


def test_a_failing_member_is_kept_out_by_its_breaker() -> None:
    """Five failures open it, each opening ends with one trial; others answer everything."""
    bad = member("bad", always(Failing(after_s=0.01)), concurrency=9)
    result = play(
        bad,
        member("good", concurrency=99),
        load=Load(rate_per_s=5),
        duration_s=100,
        strategy="round_robin",
    )
    assert result.answered == result.arrived
    assert 5 + 9 <= result.calls["bad"] <= 5 + 19  # a trial every 5 to 10 s


def test_a_member_that_fails_now_and_then_does_so_at_its_rate() -> None:
    """Without retries and with a breaker that does not open, a quarter of a thousand fails."""
    config = {"max_retries": 0, "circuit_failure_threshold": 999, "circuit_failure_rate": 1.0}
    flaky = member("a", always(Failing(0.25)), latency=Constant(0.0))
    result = play(flaky, load=Load(rate_per_s=100), duration_s=100, config=config)
    assert result.failed["unavailable"] / result.arrived == pytest.approx(0.25, abs=0.02)


def test_a_failure_of_the_callers_own_is_not_retried() -> None:
    """It fails with that kind after one call."""
    result = play(member("a", always(Failing(kind=FailureKind.CALLER))), member("b"))
    assert result.failed.get("caller", 0) == result.calls["a"]


def test_a_hanging_member_costs_a_timeout() -> None:
    """Then another one answers."""
    result = play(
        member("hangs", always(Hanging())),
        member("good"),
        strategy="priority",
        config={"request_timeout_s": 2.0},
    )
    assert result.answered == result.arrived
    assert result.max_s == 3.0


def test_without_a_timeout_a_hanging_call_never_ends() -> None:
    """It is counted as unfinished."""
    result = play(member("a", always(Hanging())), config={"request_timeout_s": None})
    assert (result.arrived, result.failed, result.mean_s) == (1, {"unfinished": 1}, None)


@pytest.mark.parametrize("kind", [each for each in FailureKind if each is not CREATE_FAILED])
def test_what_a_client_would_raise_is_found_to_be_what_was_meant(kind: FailureKind) -> None:
    """By the rules that read the errors of real clients; `cancelled` is no failure of a member."""
    _, verdict = failures(None)(kind, None)
    assert verdict.kind is (FailureKind.UNKNOWN if kind is FailureKind.CANCELLED else kind)


def test_a_pool_reads_errors_by_its_own_rules_first() -> None:
    """`PoolConfig.classify` is asked here, too."""
    config = {"classify": lambda error: FailureKind.CALLER, "max_retries": 9}
    result = play(member("a", always(Failing())), config=config)
    assert result.failed == {"caller": result.arrived}


def test_an_agent_that_cannot_be_made_is_left_alone_for_a_while() -> None:
    """For 0.1 s, 0.2 s and so on, while others answer; afterwards it is a member like any other."""
    unmade = Fault(Failing(kind=CREATE_FAILED), 0.0, 8.0)
    result = play(
        member("a", unmade, latency=Constant(0.0)),
        member("b", latency=Constant(0.0), priority=1),
        load=Load(rate_per_s=50),
        duration_s=10,
        strategy="priority",
    )
    assert result.answered == result.arrived
    after = round(result.arrived * 0.2)
    assert 0 < result.calls["a"] < after + 20
    assert result.calls["b"] >= result.arrived - after - 60


def test_a_slow_call_is_hedged() -> None:
    """Half a second after it began another member has it, too, and answers it a second later."""
    result = play(
        member("a", latency=Constant(3.0)),
        member("b", priority=1),
        strategy="priority",
        load=Load(rate_per_s=1e-9, backlog=1),
        config={"hedge_after_s": 0.5},
    )
    assert (result.max_s, result.calls) == (1.5, {"a": 1, "b": 1})


def test_a_rate_limit_lets_through_what_it_says() -> None:
    """The bucket's burst, and then so many a second; the rest waits for that in vain."""
    config = {"max_retries": 0, "circuit_window": 9999, "deadline_s": 0.1}
    limited = member("a", always(RateLimit(2.0, burst=5)), latency=Constant(0.0))
    result = play(limited, load=Load(rate_per_s=50), duration_s=20, config=config)
    assert result.answered == pytest.approx(5 + 2.0 * 20, abs=4)
    assert {"rate_limited", "deadline"} <= set(result.failed)


def test_a_retry_after_keeps_the_member_out() -> None:
    """Others get the requests meanwhile: one refusal every ten seconds at the most."""
    limited = member("a", always(RateLimit(0.001, retry_after_s=10.0)), latency=Constant(0.0))
    other = member("b", latency=Constant(0.0))
    result = play(limited, other, load=Load(rate_per_s=20), duration_s=100, strategy="round_robin")
    assert result.answered == result.arrived
    assert 9 <= result.calls["a"] <= 11


# -- what the pool does


def test_a_deadline_ends_a_request() -> None:
    """Wherever it is."""
    result = play(member(), config={"deadline_s": 0.5})
    assert result.failed == {"deadline": result.arrived}


def test_a_hurried_caller_does_not_open_a_breaker() -> None:
    """A call that is cut short before its member was late says nothing of it."""
    config = {"deadline_s": 1.5, "circuit_failure_threshold": 1}
    slow = member("a", Fault(Slow(factor=1.7), 5.0, 10.0))
    result = play(slow, duration_s=20, config=config)
    assert set(result.failed) == {"deadline"}
    assert result.answered + result.failed["deadline"] == result.arrived


def test_nobody_to_ask_fails_at_once_or_waits() -> None:
    """With every breaker open: at once by default, at the reopening when told to wait."""
    bad = member("a", Fault(Failing(), 0.0, 5.0))
    config: dict[str, Any] = {"circuit_failure_threshold": 1, "max_retries": 0}
    config["circuit_reset_timeout_s"] = 6.0
    result = play(bad, config=config)
    assert result.failed["no_member"] > 3
    waiting = play(bad, config={**config, "when_unavailable": "wait"})
    assert waiting.failed == {"unavailable": 1}


def test_a_half_open_breaker_lets_one_trial_through() -> None:
    """Of ten that wait for it, one at a time until two have succeeded; then one, two, four."""
    bad = member("a", Fault(Failing(), 0.0, 0.5), concurrency=10)
    config = {"circuit_failure_threshold": 1, "when_unavailable": "wait", "max_retries": 9}
    result = play(bad, load=Load(rate_per_s=1e-9, backlog=10), config=config)
    assert (result.answered, result.calls["a"]) == (10, 20)
    assert result.max_s == pytest.approx(5 + 1 + 1 + 1 + 1 + 1 + 1)


def test_equal_keys_go_to_one_member() -> None:
    """With one key, consistent hashing uses one of three members; with one each, all."""
    members = [member(name, concurrency=99) for name in "abc"]
    one = play(*members, load=Load(rate_per_s=20, keys=1), strategy="consistent_hash")
    own = play(*members, load=Load(rate_per_s=20), strategy="consistent_hash")
    assert sorted(one.calls.values())[:2] == [0, 0]
    assert min(own.calls.values()) > 40


def test_a_fault_of_the_simulation_itself_is_no_result() -> None:
    """What raises in it is raised, and not counted as a request that has failed."""

    class Broken:
        def effect(self, rng: random.Random) -> Effect:
            return lambda ending, now: ending._replace(seconds=1 / 0)

    with pytest.raises(RuntimeError, match="the simulation failed") as caught:
        play(member("a", always(Broken())))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# -- the agenda


def test_what_one_tells_another_is_heard_before_anything_else_happens() -> None:
    """In order, and without any time passing by."""
    agenda, heard = Agenda(), list[tuple[float, str]]()

    def note(what: str) -> None:
        heard.append((agenda.now, what))

    def tell(_: None) -> None:
        agenda.at(1.0, note, "later")
        agenda.soon(note, "first")
        agenda.soon(lambda _: agenda.soon(note, "third"), None)
        agenda.soon(note, "second")

    agenda.at(1.0, tell)
    agenda.run()
    assert heard == [(1.0, "first"), (1.0, "second"), (1.0, "third"), (1.0, "later")]


def test_an_alarm_comes_before_what_else_happens_at_that_time() -> None:
    """Unless it is cancelled; and what comes after the end does not happen."""
    agenda, heard = Agenda(), list[str]()
    agenda.at(1.0, heard.append, "event")
    agenda.alarms.at(1.0, lambda: heard.append("alarm"))
    agenda.alarms.at(1.0, lambda: heard.append("cancelled")).cancel()
    agenda.alarms.at(3.0, lambda: heard.append("late alarm"))
    agenda.at(3.0, heard.append, "late event")
    agenda.run(2.0)
    assert (heard, agenda.now) == (["alarm", "event"], 1.0)
    agenda.run()
    assert heard[2:] == ["late alarm", "late event"]


# -- load, and what is counted


def test_callers_ask_pause_and_ask_again() -> None:
    """One caller, a second for the answer and a second of pause: five in ten seconds."""
    assert play(member()).arrived == 5
    assert play(member(concurrency=4), load=Load(callers=4, think_s=1.0)).arrived == 20


def test_utilisation_is_a_share_of_what_all_can_do() -> None:
    """A member that works on two at a time, twice as fast, with one of speed 1: five a second."""
    members = (member("a", speed=2.0, concurrency=9, servers=2), member("b"))
    scenario = Scenario(name="x", members=members, load=Load(utilisation=0.6), duration_s=9)
    assert scenario.rate_per_s == pytest.approx(3.0)


def test_what_arrives_in_the_warm_up_is_not_counted() -> None:
    """Neither the request nor its calls."""
    result = play(member(), warmup_s=6.0)
    assert (result.arrived, result.calls["a"]) == (2, 2)


def test_goodput_is_what_is_answered_in_time() -> None:
    """Exactly in time counts; shares of nothing are None."""
    load = Load(rate_per_s=1e-9, backlog=4)
    result = play(member(), load=load, within_s=3.0)
    assert (result.answered_share, result.goodput) == (1.0, 0.75)
    nothing = play(member(), load=load, warmup_s=1.0)
    assert (nothing.answered_share, nothing.goodput, nothing.p99_s) == (None, None, None)


def test_quantiles_are_values_that_occurred() -> None:
    """The smallest that the share does not exceed."""
    values = [1.0, 2.0, 3.0, 4.0]
    assert [quantile(values, q) for q in (0.25, 0.5, 0.51, 0.99)] == [1.0, 2.0, 3.0, 4.0]
    assert quantile([], 0.5) is None

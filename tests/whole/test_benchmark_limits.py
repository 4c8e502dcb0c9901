"""The load on rate-limited providers: when requests come, what is possible, what is let in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from benchmarks import provider, report
from benchmarks.groups.limits import DEADLINE_S, SCENARIOS
from benchmarks.load import Account, Asked, Limiter, Providers, Result, Told, arrivals, possible
from benchmarks.model import FULL, QUICK, Group, Samples, Sheet
from helpers_pages import ROOT

TWO_OF_FIVE = Providers(calls=10, per_s=1.0, takes_s=0.3)


def at(*seconds: float) -> list[Asked]:
    return [Asked(each, "t") for each in seconds]


def test_a_limiter_lets_so_many_in_any_window() -> None:
    """The sixth has to wait for just as long as the first of the last five counts."""
    limiter = Limiter(5, per_s=1.0)
    assert [limiter.wait_s(each / 10) for each in range(5)] == [0.0] * 5
    assert limiter.wait_s(0.6) == pytest.approx(0.4)
    assert limiter.wait_s(1.0) == 0.0
    assert limiter.wait_s(1.0) == pytest.approx(0.1)


def test_a_refused_call_does_not_count() -> None:
    """Who asks too early, however often, is let in when it was told."""
    limiter = Limiter(1, per_s=1.0)
    assert limiter.wait_s(0.0) == 0.0
    assert all(limiter.wait_s(each / 100) > 0.0 for each in range(1, 100))
    assert limiter.wait_s(1.0) == 0.0


def test_grace_brings_nobody_more() -> None:
    """A call that comes a little early counts from when it was due."""
    limiter = Limiter(1, per_s=1.0, grace_s=0.05)
    let_in = [each / 32 for each in range(321) if limiter.wait_s(each / 32) == 0.0]
    assert let_in == [0.0, *(turn - 1 / 32 for turn in range(1, 11))]


def test_arrivals_are_the_same_for_the_same_seed() -> None:
    """In order, at about their rate, and no tenant's depend on another's."""
    once = arrivals({"a": 13.0, "b": 1.0}, 100.0, seed=1)
    assert once == arrivals({"a": 13.0, "b": 1.0}, 100.0, seed=1)
    assert once != arrivals({"a": 13.0, "b": 1.0}, 100.0, seed=2)
    assert once == sorted(once, key=lambda each: each.at_s)
    theirs = [each for each in once if each.tenant == "a"]
    assert theirs == arrivals({"a": 13.0}, 100.0, seed=1)
    assert 1_200 < len(theirs) < 1_400
    assert all(0.0 < each.at_s < 100.0 for each in once)


def test_what_is_possible_is_bounded_by_the_limit() -> None:
    """Of thirteen at once ten are answered; the others too if there is time for a second turn."""
    assert possible(at(*[0.0] * 13), TWO_OF_FIVE, deadline_s=0.5) == 10
    assert possible(at(*[0.0] * 13), TWO_OF_FIVE, deadline_s=1.2) == 10
    assert possible(at(*[0.0] * 13), TWO_OF_FIVE, deadline_s=1.3) == 13


def test_what_would_be_late_takes_no_call_from_the_others() -> None:
    """Only what can be answered in time is begun."""
    crowd = at(*[0.0] * 30, 1.5)
    assert possible(crowd, TWO_OF_FIVE, deadline_s=1.0) == 11


def test_nothing_is_possible_while_the_network_is_away() -> None:
    """Nor does a call count that would run into it; what can wait for its end does."""
    away = Providers(calls=10, per_s=1.0, takes_s=0.3, out_s=(1.0, 3.0))
    assert possible(at(0.5), away, deadline_s=1.0) == 1
    assert possible(at(0.8), away, deadline_s=1.0) == 0
    assert possible(at(0.8, 2.5), away, deadline_s=2.5) == 2


def test_a_result_is_shares_and_quantiles() -> None:
    """Of what was possible, of all calls, of some tenants; and how soon after an outage."""
    told = [Told(Asked(each, "a"), 0.5) for each in (0.0, 1.0, 2.0)]
    told += [Told(Asked(4.0, "b"), None, "TimeoutError"), Told(Asked(5.0, "b"), 1.5)]
    result = Result(told, Account(calls=8, refused=1, cut=1), possible=5, back_s=2.0)
    assert (result.answered, result.refused) == (80.0, 25.0)
    assert (result.part({"a"}), result.part({"b"})) == (100.0, 50.0)
    assert result.quantile_s(0.50) == 0.5
    assert result.quantile_s(0.99, {"b"}) == 1.5
    assert result.quantile_s(0.99, {"c"}) is None
    assert result.first_after_s == 0.5


def test_nothing_next_to_nothing_is_as_much() -> None:
    """A share may be none: the ratio is still one."""
    assert report.quotient(0.0, 0.0) == 1.0
    assert report.quotient(1.0, 0.0) == float("inf")
    assert report.quotient(1.0, 4.0) == 0.25


def test_a_sheet_has_a_row_for_each_peer_of_each_case() -> None:
    """With the reason where nothing was measured, a dash where one figure is missing."""

    def samples(case: str, peer: str, *values: float, missing: str | None = None) -> Samples:
        return Samples("free", "g", f"g.{case}", peer, "x", case, "%", list(values), missing)

    sheet = Sheet((("one", "first case"), ("two", "second")), (("x", "this"), ("y", "that")))
    measured = [
        samples("one.x", "greenroom", 99.0),
        samples("one.y", "greenroom", missing="nothing was answered"),
        samples("one.x", "other", missing="not expressible"),
        samples("one.y", "other", missing="not expressible"),
        samples("two.x", "greenroom", 5.0),
    ]
    assert report.sheets([Group("g", "Title", (), (), sheet=sheet)], measured) == [
        "",
        "Title:",
        "",
        "| case | who | this | that |",
        "|---|---|---:|---:|",
        "| first case | greenroom | 99.0 % | – |",
        "|  | other | not expressible |  |",
        "| second | greenroom | 5.00 % |  |",
    ]


def test_every_load_leaves_something_to_answer() -> None:
    """Each case asks for something, most of which can be answered."""
    for each in SCENARIOS:
        asked = arrivals(each.rates, FULL.load_s, seed=1)
        whole = Providers(10, provider.PER_S, provider.TAKES_S, each.out_s(FULL.load_s))
        assert 80 <= possible(asked, whole, DEADLINE_S) <= len(asked)


def test_keys_are_limited_each_and_counted_together() -> None:
    """A 429 says when to come back, to the millisecond and in whole seconds."""
    now = [0.0]
    books = provider.Books(lambda: now[0])

    def called(key: str) -> tuple[int, dict[str, str]]:
        status, headers, _ = books.answer("POST", "/v1/chat/completions", key) or (200, {}, None)
        return status, headers

    assert [called("case-1.a")[0] for _ in range(6)] == [200] * 5 + [429]
    assert called("case-1.b")[0] == 200
    now[0] += 0.25
    assert called("case-1.a") == (429, {"retry-after": "1", "retry-after-ms": "750"})
    assert books.answer("GET", "/account/case-1", "") == (200, {}, {"calls": 8, "refused": 2})
    assert books.answer("GET", "/account/case-2", "") == (200, {}, {})


def test_the_keys_of_an_owner_are_cut_for_a_while() -> None:
    """What comes meanwhile, and what was running."""
    now = [0.0]
    books = provider.Books(lambda: now[0])
    assert books.answer("POST", "/v1/chat/completions", "case-1.a") is None
    books.answer("POST", "/out/case-1/2", "")
    with pytest.raises(provider.Cut):
        books.check("case-1.a")
    with pytest.raises(provider.Cut):
        books.answer("POST", "/v1/chat/completions", "case-1.b")
    books.check("case-2.a")
    now[0] += 2.0
    books.check("case-1.a")


def test_a_worker_finds_the_server_and_reads_its_books() -> None:
    """The server runs in a process of its own, and answers until it is told to be out."""
    program = """
import asyncio
import os
from benchmarks import provider
from benchmarks.peers import calls
from benchmarks.peers.base import Providers
url = os.environ[provider.URL]
providers = Providers(url, "case-1", ("a",), None, False, 3.0)
assert asyncio.run(calls.call(providers, "a")) == "hello"
provider.out(url, "case-1", 600)
try:
    asyncio.run(calls.call(providers, "a"))
except ConnectionError:
    print(provider.account(url, "case-1"))
"""
    with provider.running(QUICK) as needs:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | needs,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.stdout == "Account(calls=2, refused=0, cut=1)\n", done.stderr

"""A rate limit that processes have together: ledger and budgets, with simulated processes."""

from __future__ import annotations

import json
import math
import random

import pytest
from helpers_leases import KEY, Lab
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenroom.messages.shared_limits import LeaseWanted
from greenroom.shared.lease_book import LeaseBook

BUSY = math.inf


def wanted(**fields: object) -> LeaseWanted:
    asked: dict[str, object] = {
        "key": KEY, "serial": 1, "amount": 10, "per_s": 1.0, "want": 1, "least": 1, "holds": 0,
        "spent": 0, "used": 0, "ago_s": 0.0, "lease_s": 0.25,
    }  # fmt: skip
    return LeaseWanted(**(asked | fields))  # type: ignore[arg-type]


# -- the ledger


def test_b465_a_lease_counts_until_its_end_and_a_window_more() -> None:
    """Since all of it may be spent in its last moment; who is killed says nothing of it."""
    book = LeaseBook(100.0)
    assert book.lend(wanted(want=10), "dead").holds == 10
    for now, holds in ((100.2, 0), (101.0, 0), (101.24, 0), (101.26, 10)):
        book = LeaseBook.read(book.text(), now)
        assert book.lend(wanted(want=10), "other").holds == holds
    assert book.lend(wanted(want=10, least=0), "third").holds == 0


def test_b465_what_is_given_back_is_free_at_once_and_what_is_spent_counts_from_then() -> None:
    """Four of ten were spent 0.1 s ago."""
    book = LeaseBook(100.0)
    book.lend(wanted(want=10), "one")
    book = LeaseBook.read(book.text(), 100.2)
    told = wanted(want=0, least=0, spent=4, used=4, ago_s=0.1)
    assert book.lend(told, "one").holds == 0
    assert book.lend(wanted(want=10), "two").holds == 6
    book = LeaseBook.read(book.text(), 101.09)
    assert book.lend(wanted(want=10, least=0, holds=6), "two").holds == 6
    book = LeaseBook.read(book.text(), 101.12)
    assert book.lend(wanted(want=10, least=0, holds=6), "two").holds == 10


def test_b465_what_is_said_twice_counts_once() -> None:
    """An answer was lost; or the ledger, then it counts anew."""
    book = LeaseBook(100.0)
    told = wanted(want=0, least=0, spent=4, used=4)
    book.lend(told, "one")
    book.lend(told, "one")
    assert book.lend(wanted(want=10), "two").holds == 6
    lost = LeaseBook(100.5)
    lost.lend(wanted(want=0, least=0, spent=90, used=4), "one")
    assert lost.lend(wanted(want=10), "two").holds == 6


def test_b465_what_took_less_than_was_said_is_free_again() -> None:
    """By the slice that the answer has named; what is long over changes nothing."""
    book = LeaseBook(100.0)
    place = book.lend(wanted(want=0, least=0, spent=9, used=9), "one").slice
    changed = wanted(want=0, least=0, spent=9, used=2, changes={place: -7, place - 5: -2})
    book.lend(changed, "one")
    assert book.lend(wanted(want=10), "two").holds == 8


def test_b466_nobody_takes_what_others_wait_for_beyond_its_own_part() -> None:
    """Two wait for nothing that is there; when it is, the greedy one has its part."""
    book = LeaseBook(100.0)
    book.lend(wanted(want=0, least=0, spent=10, used=10), "greedy")
    assert book.lend(wanted(want=10), "greedy").holds == 0
    waits = book.lend(wanted(want=3), "modest")
    assert waits.holds == 0
    assert waits.wait_s == pytest.approx(1.0)
    book = LeaseBook.read(book.text(), 100.9)
    book.lend(wanted(want=3), "modest")
    book = LeaseBook.read(book.text(), 101.001)
    assert book.lend(wanted(want=10), "greedy").holds == 7
    assert book.lend(wanted(want=3), "modest").holds == 3


def test_b466_what_costs_much_comes_to_its_turn() -> None:
    """It has waited for longest: nobody takes what it needs, but once it has gone away."""
    book = LeaseBook(100.0)
    book.lend(wanted(want=0, least=0, spent=4, used=4), "small")
    assert book.lend(wanted(want=8, least=8), "large").holds == 0
    book = LeaseBook.read(book.text(), 100.1)
    assert book.lend(wanted(want=2), "small").holds == 0
    book = LeaseBook.read(book.text(), 100.9)
    book.lend(wanted(want=8, least=8), "large")
    book = LeaseBook.read(book.text(), 101.001)
    assert book.lend(wanted(want=6, least=1), "small").holds == 2
    assert book.lend(wanted(want=8, least=8), "large").holds == 8
    book = LeaseBook(100.0)
    book.lend(wanted(want=0, least=0, spent=4, used=4), "small")
    book.lend(wanted(want=8, least=8), "large")
    book = LeaseBook.read(book.text(), 101.5)
    assert book.lend(wanted(want=6), "small").holds == 6


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=30,
)


@given(_JSON, st.lists(_JSON, min_size=8, max_size=8), st.floats(-1e9, 1e9))
@example("[" * 100_000, [], 1.0)
@example(10**400, [], 1.0)
def test_b467_whatever_lies_there_harms_nobody(text: object, account: object, now: float) -> None:
    """Somebody has spoiled it, or a later version has written it: it begins anew, or lends less,
    never more; and soon all is as ever.
    """
    texts = [text if isinstance(text, str) else json.dumps(text)]
    texts.append(json.dumps([1, now, {"x": account}]))
    for each in texts:
        book = LeaseBook.read(each, now)
        answer = book.lend(wanted(want=10), "me")
        assert 0 <= answer.holds <= 10
        assert answer.wait_s >= 0.0
        later = LeaseBook.read(book.text(), max(now, book.now) + 62.0 + 11.0)
        assert later.lend(wanted(want=10, spent=0), "me").holds == 10


def test_b467_a_clock_that_goes_back_lets_nothing_be_spent_twice() -> None:
    """A little: time stands still; by hours: all counts from then."""
    for back_s in (0.5, 7200.0):
        book = LeaseBook(1e6)
        book.lend(wanted(want=0, least=0, spent=10, used=10), "one")
        book = LeaseBook.read(book.text(), 1e6 - back_s)
        assert book.lend(wanted(want=10), "two").holds == 0
        book = LeaseBook.read(book.text(), 1e6 - back_s + 1.6)
        assert book.lend(wanted(want=10), "two").holds == 10


# -- with the budgets of processes


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    amount=st.sampled_from([1, 3, 10, 60, 400]),
    per_s=st.sampled_from([0.2, 1.0, 3.0]),
    rates=st.lists(st.sampled_from([0.5, 5.0, 60.0, BUSY]), min_size=1, max_size=6),
    lag_s=st.sampled_from([0.0, 0.003, 0.05, 0.4]),
    most=st.sampled_from([1, 1, 10]),
    kills=st.lists(st.integers(0, 5), max_size=3),
)
def test_b468_in_no_window_is_more_spent_than_the_limit(
    seed: int,
    amount: int,
    per_s: float,
    rates: list[float],
    lag_s: float,
    most: int,
    kills: list[int],
) -> None:
    """Whatever the processes do, however long answers take, and whoever is killed with a lease."""
    lab = Lab(
        amount,
        per_s,
        rates,
        seed=seed,
        lag_s=lag_s,
        costs=lambda rng: rng.randint(1, min(most, amount)),
        settles=most > 1,
    )
    lab.run(1.5 * per_s)
    for number in kills:
        lab.tenants[number % len(rates)].killed = True
    lab.run(2.0 * per_s)
    assert lab.most() <= amount


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), loss=st.sampled_from([0.02, 0.3]))
def test_b468_an_answer_that_is_lost_leads_to_no_more_than_the_part_of_each(
    seed: int, loss: float
) -> None:
    """Who does not know goes on with its part, which nobody can count: that is all."""
    lab = Lab(40, 1.0, [BUSY, 20.0, 3.0, BUSY], seed=seed, loss=loss)
    lab.run(4.0)
    assert lab.most() <= 40 + 4 * 40


@pytest.mark.parametrize(
    ("amount", "per_s", "share"),
    [(100, 1.0, 0.9), (40, 1.0, 0.9), (1000, 10.0, 0.9), (8, 1.0, 0.8)],
)
def test_b469_eight_busy_processes_use_nearly_all_of_it(
    amount: int, per_s: float, share: float
) -> None:
    """And each has its part: none has less than half of it."""
    lab = Lab(amount, per_s, [BUSY] * 8)
    lab.run(2.0 * per_s)
    since = lab.now
    lab.run(4.0 * per_s)
    spent = lab.number(since)
    assert sum(spent) >= share * 4 * amount
    assert min(spent) >= 0.5 * sum(spent) / 8
    assert lab.most() <= amount


def test_b469_one_process_alone_has_all_of_it() -> None:
    """As without others."""
    lab = Lab(100, 1.0, [BUSY, 0.01])
    lab.run(2.0)
    since = lab.now
    lab.run(4.0)
    assert lab.number(since)[0] >= 0.9 * 400


@pytest.mark.parametrize("seed", range(3))
def test_b469_a_greedy_one_starves_nobody(seed: int) -> None:
    """Seven ask for little, one for all that there is: the seven wait for no longer than it takes
    for something to come back.
    """
    lab = Lab(100, 1.0, [BUSY] + [5.0] * 7, seed=seed)
    lab.run(2.0)
    since = lab.now
    lab.run(5.0)
    assert min(lab.number(since)[1:]) >= 0.8 * 25
    assert lab.number(since)[0] >= 0.8 * 5 * (100 - 35)


def test_b469_what_costs_much_is_not_starved_by_what_costs_little() -> None:
    """One process has calls of eighty, three have calls of one and never enough of them."""
    lab = Lab(100, 1.0, [BUSY] * 4)
    lab.tenants[0].costs = lambda rng: 80
    lab.run(12.0)
    assert len(lab.tenants[0].spent) >= 4


def test_b470_the_first_call_waits_for_its_lease_and_the_next_ones_do_not() -> None:
    """Six milliseconds; what comes in is there before it is needed."""
    lab = Lab(1000, 1.0, [100.0], lag_s=0.003)
    lab.run(3.0)
    waits = lab.tenants[0].waits
    assert len(waits) >= 290
    assert max(waits) <= 0.05
    assert sum(wait > 0 for wait in waits[20:]) <= 0.02 * len(waits)


def test_b470_who_has_nothing_to_do_holds_nothing_and_asks_nobody() -> None:
    """What it held is free for others before its time is over."""
    lab = Lab(10, 60.0, [5.0, 0.0001])
    lab.run(1.0)
    first = lab.tenants[0]
    first.rate, first._due = 1e-6, math.inf
    lab.run(12.0)
    asks = lab.asks
    lab.run(30.0)
    assert lab.asks == asks
    assert first.budget.headroom(lab.now) == 0
    second = lab.tenants[1]
    second.rate, second._due = BUSY, lab.now
    lab.run(1.0)
    assert len(first.spent) + len(second.spent) == 10


def test_b470_what_nobody_waits_for_any_more_is_asked_for_no_more() -> None:
    """Ten are spent, and two processes want more, until that has gone elsewhere: they ask no more
    though none comes back for a minute. A second later whoever wants something asks anew.
    """
    lab = Lab(10, 60.0, [BUSY, 5.0])
    lab.run(2.0)
    assert all(each.budget.is_out for each in lab.tenants)
    for each in lab.tenants:
        each.rate, each._due = 1e-6, math.inf
        each.queue.clear()
    lab.run(0.5)
    asks = lab.asks
    lab.run(30.0)
    assert lab.asks == asks
    assert all(each.budget.is_unknown(1, lab.now) for each in lab.tenants)
    second = lab.tenants[1]
    second._due = lab.now
    lab.run(0.1)
    assert lab.asks == asks + 1
    assert second.budget.is_out


def test_b471_where_nobody_lends_each_goes_on_with_its_part_and_comes_back() -> None:
    """A quarter each of four that there were, and all together once there is a ledger again."""
    lab = Lab(80, 1.0, [BUSY] * 4)
    lab.run(2.0)
    lab.away = True
    lab.run(2.0)
    since = lab.now
    lab.run(3.0)
    assert all(each.budget.alone for each in lab.tenants)
    assert all(55 <= spent <= 62 for spent in lab.number(since))
    lab.away = False
    lab.run(3.0)
    assert not any(each.budget.alone for each in lab.tenants)
    since = lab.now
    lab.run(3.0)
    assert 0.9 * 240 <= sum(lab.number(since)) <= 240 + 80
    assert lab.most(since) <= 80


def test_b471_an_answer_that_never_comes_is_not_waited_for() -> None:
    """Three seconds."""
    lab = Lab(80, 1.0, [BUSY], lag_s=1e9)
    lab.run(2.9)
    assert not lab.tenants[0].spent
    lab.run(0.5)
    assert len(lab.tenants[0].spent) == 80


def test_b470_a_late_answer_is_of_no_account() -> None:
    """Nor is one that nobody asked for."""
    rng = random.Random(1)
    lab = Lab(10, 1.0, [1.0], seed=rng.randint(0, 9))
    lab.run(0.5)
    budget = lab.tenants[0].budget
    from greenroom.messages.shared_limits import LeaseGranted, LeaseRefused

    answer = LeaseGranted(key=KEY, serial=10**6, holds=10, wait_s=0.0, slice=0, processes=1)
    assert not budget.granted(answer, lab.now)
    assert not budget.refused(LeaseRefused(key=KEY, serial=10**6), lab.now)


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_b470_what_a_call_did_not_take_is_free_for_others_soon(seed: int) -> None:
    """Two processes reserve 400 of 1,000 each time, and take ten: neither waits for long, until
    there is too little left to be reserved.
    """
    lab = Lab(1000, 60.0, [2.0, 2.0], seed=seed, costs=lambda rng: 400)
    lab.settle_s, lab.really = 0.05, 10
    lab.run(20.0)
    # Sixty have taken 600: one more may reserve the rest, and after that one nobody.
    assert sum(len(each.spent) for each in lab.tenants) == 61
    for each in lab.tenants:
        assert len(each.spent) >= 28
        assert max(each.waits) <= 2.0

"""The window of a map, without a pool: bounded, in order or not, and it follows the pool."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom import MemberStats, PoolStats
from greenroom.actors.handle.map_window import AHEAD, Window


def stats(*at_a_time: int) -> PoolStats:
    members = tuple(MemberStats(f"m{i}", max_concurrency=n) for i, n in enumerate(at_a_time))
    return PoolStats("pool", strategy="priority", members=members)


@given(limit=st.integers(1, 5), ordered=st.booleans(), data=st.data(), steps=st.integers(0, 60))
def test_it_never_holds_more_than_its_limit(
    limit: int, ordered: bool, data: st.DataObject, steps: int
) -> None:
    """Whatever ends when: all that begins is taken once, in order if that is wanted."""
    window = Window(limit, ordered)
    running: list[int] = []
    ended: list[int] = []
    taken: list[int] = []
    for _ in range(steps):
        doable = [
            name
            for name, can in [
                ("begin", window.has_room),
                ("end", bool(running)),
                ("take", window.is_ready),
            ]
            if can
        ]
        step = data.draw(st.sampled_from(doable))
        if step == "begin":
            running.append(window.begin())
        elif step == "end":
            ended.append(running.pop(data.draw(st.integers(0, len(running) - 1))))
            window.ended(ended[-1])
        else:
            taken.append(window.take())
        held = window.begun - window.taken
        assert 0 <= held <= limit
        assert window.has_room == (held < limit)
        assert window.is_empty == (held == 0)
        assert taken == (list(range(len(taken))) if ordered else ended[: len(taken)])
        ready = window.taken in ended if ordered else len(ended) > len(taken)
        assert window.is_ready == ready


def test_where_an_answer_is_ready_few_are_pulled() -> None:
    """As many as take its place, and one more; else as many as there is room for."""
    window = Window(10, ordered=True)
    assert window.may_pull(5)
    window.ended(window.begin())
    assert [window.may_pull(pulled) for pulled in range(AHEAD + 1)] == [True, True, False]


@pytest.mark.parametrize(
    ("members", "max_pending", "limit"),
    [((1, 1), 100, 4), ((100, 1), 1000, 202), ((3,), 1, 4), ((3,), 0, 3), ((), 100, 1)],
)
def test_its_limit_is_twice_what_the_pool_takes(
    members: tuple[int, ...], max_pending: int, limit: int
) -> None:
    """Within what may wait there, and one at least."""
    window = Window(None, ordered=True)
    assert window.wants_capacity
    assert not window.has_room
    window.capacity_is(stats(*members), max_pending)
    assert window.limit == limit


def test_it_looks_at_the_pool_again_after_each_windowful() -> None:
    """A member that has been made, or added, counts from then on."""
    window = Window(None, ordered=True)
    window.capacity_is(stats(1), 100)
    for _ in range(2):
        assert not window.wants_capacity
        window.ended(window.begin())
        window.take()
    assert window.wants_capacity
    window.capacity_is(stats(100), 100)
    assert (window.limit, window.wants_capacity) == (200, False)


def test_a_limit_of_the_apps_own_stays() -> None:
    """The pool is not asked."""
    window = Window(3, ordered=False)
    for _ in range(10):
        window.ended(window.begin())
        window.take()
    assert (window.limit, window.wants_capacity) == (3, False)

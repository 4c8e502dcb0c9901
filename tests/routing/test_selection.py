"""Who may have a request: by its own word, by what members say of its payload, by the time left."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom import Apply, Request
from greenroom.actors.handle.screening import Questions
from greenroom.actors.routing.recent_times import FEWEST, KEPT, RECENT_S, RecentTimes
from greenroom.actors.routing.selection import eligible, terms_of
from greenroom.actors.routing.slot import Slot
from greenroom.messages.screening import Heard
from greenroom.messages.supervision import MemberRoute

NOW = 100.0


def slot(name: str, *tags: str, accepts: Any = None) -> Slot:
    return Slot(MemberRoute(name, index=0, incarnation=1, ref=None, tags=tags, accepts=accepts))


SLOTS = [slot("a", "eu", "big"), slot("b", "eu"), slot("c", "us", "big"), slot("d")]


def barred(request: Any, slots: list[Slot] = SLOTS, heard: Heard | None = None) -> dict[str, str]:
    found = eligible(terms_of(request, heard), slots, None)
    return {name: str(bar.reason) for name, bar in found.barred.items()}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"only": "eu"}, "ab"),
        ({"only": "d"}, "d"),
        ({"only": ["us", "d"]}, "cd"),
        ({"exclude": "big"}, "bd"),
        ({"exclude": ("a", "us")}, "bd"),
        ({"only": "eu", "exclude": "a"}, "b"),
        ({"only": "eu", "exclude": "eu"}, ""),
        ({"prefer": "eu"}, "abcd"),
    ],
)
def test_a_name_or_a_tag_says_who_may_have_it(options: dict[str, Any], left: str) -> None:
    """The union of those named by `only`, without those named by `exclude`; nobody by `prefer`."""
    out = barred(Request("x", **options))
    assert "".join(each.name for each in SLOTS if each.name not in out) == left


def test_each_filter_has_a_reason_of_its_own() -> None:
    """As the errors of a request tell it."""

    def says_no(payload: Any) -> bool:
        return False

    deaf = slot("deaf", accepts=says_no)
    request: Request[str] = Request("x", only=["a", "b", "deaf"], exclude="b")
    heard = Questions((says_no,)).heard_of(request)
    out = barred(request, [*SLOTS, deaf], heard)
    assert out == {"b": "ruled_out", "c": "not_named", "d": "not_named", "deaf": "not_accepted"}


def test_who_is_preferred_is_told_from_the_others() -> None:
    """Of those who may have it; who may not is in neither group."""
    request: Request[str] = Request("x", prefer="big", exclude="d")
    found = eligible(terms_of(request, None), SLOTS, None)
    assert (found.others, found.named) == (frozenset("b"), True)


def test_it_is_known_whether_anybody_has_the_name() -> None:
    """Whether he may have it or not is another matter."""
    for only, named in [("a", True), ("eu", True), ("x", False), (["x", "d"], True)]:
        request: Request[str] = Request("x", only=only, exclude="a")
        assert eligible(terms_of(request, None), SLOTS, None).named is named


def test_a_member_is_asked_about_payloads_alone() -> None:
    """What has none may go to any member."""
    picky = slot("picky", accepts=lambda payload: False)
    assert barred(Apply(str), [picky]) == {}
    assert barred(Request("x"), [picky]) == {"picky": "not_accepted"}


def test_what_accepts_says_is_kept_by_the_function() -> None:
    """Members that share one are asked once; who raises, or returns a coroutine, does not accept,
    and the words of the error, which may repeat the payload, are not kept.
    """
    asked: list[Any] = []

    def short(payload: str) -> bool:
        asked.append(payload)
        return len(payload) < 3

    def broken(payload: str) -> bool:
        raise ValueError(f"secret: {payload}")

    async def late(payload: str) -> bool:
        return True

    slots = [slot("a", accepts=short), slot("b", accepts=short), slot("c", accepts=broken)]
    slots += [slot("d", accepts=late), slot("e")]
    heard = Questions((short, broken, late)).heard_of(Request("xx"))
    found = eligible(terms_of(Request("xx"), heard), slots, None)
    details = {name: bar.detail for name, bar in found.barred.items()}
    assert asked == ["xx"]
    assert details == {
        "c": "its accepts raised ValueError",
        "d": "its accepts returned a coroutine, which nobody awaits",
    }
    assert "secret" not in repr(heard)


def test_who_has_come_later_was_not_asked() -> None:
    """A request is not given to a member that wants to be asked, and was not there then."""
    newcomer = slot("new", accepts=lambda payload: True)
    found = eligible(terms_of(Request("x"), Heard()), [newcomer, slot("old")], None)
    assert {name: bar.detail for name, bar in found.barred.items()} == {
        "new": "it came when the request had been made"
    }


def test_what_is_no_exception_is_for_whoever_makes_the_request() -> None:
    """A Ctrl-C while a member's `accepts` runs is no answer of it."""

    def interrupted(payload: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Questions((interrupted,)).heard_of(Request("x"))


# -- how long a member takes


def test_the_ninetieth_percentile_is_that_of_the_last_successes() -> None:
    """Of a hundred at most, by the nearest rank; with too few of them nothing is concluded."""
    times = RecentTimes()
    times.extend([NOW] * (FEWEST - 1), [1.0] * (FEWEST - 1))
    assert times.p90_s(NOW) is None
    times.extend([NOW], [9.0])
    assert (times.p90_s(NOW), times.longest_s) == (1.0, 9.0)
    times.extend([NOW], [8.0])
    assert times.p90_s(NOW) == 8.0
    times.extend([NOW] * KEPT, [2.0] * KEPT)
    assert (times.p90_s(NOW), times.longest_s) == (2.0, 2.0)


def test_what_was_slow_is_forgotten_with_time() -> None:
    """So a member that was too slow is tried again in the end."""
    times = RecentTimes()
    times.extend([NOW] * FEWEST, [5.0] * FEWEST)
    assert times.p90_s(NOW + RECENT_S - 0.1) == 5.0
    assert times.p90_s(NOW + RECENT_S) is None
    times.extend([NOW + 70] * FEWEST, [5.0] * FEWEST)
    assert times.p90_s(NOW + 70) == 5.0
    times.forget()
    assert times.p90_s(NOW + 70) is None


def test_a_call_that_was_cut_short_has_taken_at_least_so_long() -> None:
    """Else nobody who never answers in time would be known for it; one that was cut short sooner
    than nine of ten end says nothing.
    """
    times = RecentTimes()
    times.extend([NOW] * FEWEST, [1.0] * FEWEST)
    for _ in range(2):
        times.at_least(3.0, NOW)
    times.at_least(0.1, NOW)
    assert times.p90_s(NOW) == 3.0

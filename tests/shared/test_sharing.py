"""What processes tell each other of their members: the core, with simulated processes."""

from __future__ import annotations

import random

import pytest
from helpers_sharing import POLICY, RESET_S, STEP_S, Town
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import CircuitState, FailureKind, ReportedState
from greenroom.shared.sharing import (
    CLOSED_S,
    JITTER_S,
    TURN_S,
    Alone,
    Back,
    LookAtMembers,
    Looked,
    Put,
    Say,
    Sharing,
)
from greenroom.shared.state_store import Lying, Said, Topic, Word, key_of, key_text

DOWN = FailureKind.UNAVAILABLE
CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
BREAKER, REST = (Topic.BREAKER, "a"), (Topic.REST, "a")


def sharing(by: str = "me") -> Sharing:
    return Sharing(by, f"host:{by}", random.Random(3))


def lying(word: Word, left_s: float, key: tuple[Topic, str] = BREAKER) -> dict[str, Lying]:
    return {key_text(key): Lying(word.text(), left_s)}


def word(said: Said, by: str = "other", number: int = 1, kind: FailureKind | None = DOWN) -> Word:
    return Word(said, by, number, f"host:{by}", kind)


# -- what is said


@pytest.mark.parametrize("said", list(Said))
def test_b399_a_word_comes_back_as_it_was_put(said: Said) -> None:
    """With who says it, and by which failure it is known."""
    for kind in (None, DOWN):
        assert Word.read(word(said, kind=kind).text()) == word(said, kind=kind)


@given(st.text() | st.sampled_from(["[2]", "[1,2,3,4,5,6]", "{}", '[1,"open","x",1,"s","?"]']))
def test_b399_what_is_no_word_is_none(text: str) -> None:
    """Of another version, or of somebody else: it is passed over."""
    assert Word.read(text) is None
    assert key_of(text) is None or text.partition("/")[0] in list(Topic)
    mine = sharing()
    assert mine.looked({text: Lying(text, 1.0), key_text(BREAKER): Lying(text, 1.0)}, 1.0) == []


def test_b399_who_says_it_is_shown_in_one_line() -> None:
    """Whatever lies there."""
    for source in ("a\nb", "\u202e", "\ud800"):
        found = Word.read(Word(Said.OPEN, "x", 1, source).text())
        assert found is not None
        assert found.source == ""
    long = Word.read(Word(Said.OPEN, "x", 1, "h" * 1000).text())
    assert long is not None
    assert len(long.source) == 100


def test_b399_members_may_be_called_anything() -> None:
    """A slash in a name is no end of it."""
    for name in ("a/b", "/", "breaker/x", "ü ö"):
        assert key_of(key_text((Topic.REST, name))) == (Topic.REST, name)


# -- who says it, and when


def test_b400_a_fault_is_told_once_another_member_has_answered_since() -> None:
    """Until then it may be one's own network: it is looked, more and more seldom."""
    mine = sharing()
    assert mine.opened("a", 5.0, DOWN, False, 10.0) == [LookAtMembers()]
    assert mine.members({"a": Looked(9.0), "b": Looked(9.99)}, 10.0) == []
    assert mine.next_at() < 10.1
    assert mine.tick(10.5) == [LookAtMembers()]
    (put,) = mine.members({"a": Looked(9.0), "b": Looked(10.4)}, 10.5)
    assert isinstance(put, Put)
    assert (put.key, put.word.said, put.ttl_s) == (BREAKER, Said.OPEN, 4.5)
    assert mine.tick(11.0) == []


def test_b400_a_refused_key_is_told_at_once() -> None:
    """It has come from the member itself, so the network is there."""
    for kind in (FailureKind.AUTH, FailureKind.QUOTA):
        (put,) = sharing().opened("a", 30.0, kind, False, 10.0)
        assert isinstance(put, Put)
        assert put.word.kind is kind


def test_b400_what_is_done_by_hand_is_nobody_elses() -> None:
    """A breaker that is forced open has no time at which it ends."""
    mine = sharing()
    assert mine.opened("a", None, None, False, 10.0) == []
    assert mine.closed("a", False, 11.0) == []


def test_b400_an_opening_that_is_over_before_anybody_has_answered_is_never_told() -> None:
    """And neither is its end."""
    mine = sharing()
    mine.opened("a", 5.0, DOWN, False, 10.0)
    mine.half_opened("a", 15.0)
    assert mine.members({"b": Looked(15.2), "a": Looked(busy=1)}, 15.2) == []
    assert mine.closed("a", False, 15.3) == []


def test_b400_what_is_heard_is_not_told_again() -> None:
    """Neither an opening, nor a closing, nor a rest of that word."""
    mine = sharing()
    (say,) = mine.looked(lying(word(Said.OPEN), 5.0), 10.0)
    assert isinstance(say, Say)
    assert say.state is ReportedState.OPEN
    assert say.for_s is not None
    assert 5.0 + TURN_S <= say.for_s <= 5.0 + TURN_S + JITTER_S
    assert mine.opened("a", say.for_s, DOWN, True, 10.0) == []
    assert mine.looked(lying(word(Said.OPEN), 4.0), 11.0) == []  # the same word
    (say,) = mine.looked(lying(word(Said.CLOSED, number=2), CLOSED_S), 12.0)
    assert isinstance(say, Say)
    assert say.state is ReportedState.CLOSED
    assert mine.closed("a", True, 12.0) == []


def test_b400_who_has_found_the_same_fault_later_waits_for_the_first() -> None:
    """Nothing is put over the other's word, and one's own opening lasts until after it."""
    mine = sharing()
    mine.looked({}, 10.0)
    mine.opened("a", 5.0, DOWN, False, 10.0)
    (say,) = mine.looked(lying(word(Said.OPEN), 4.9), 10.1)
    assert isinstance(say, Say)
    assert mine.members({"b": Looked(10.2)}, 10.2) == []
    late = sharing("late")
    late.looked(lying(word(Said.OPEN), 4.9), 10.1)
    late.let_go("a")
    (said,) = late.opened("a", 3.0, DOWN, False, 10.3)
    assert isinstance(said, Say)
    assert late.looked(lying(word(Said.OPEN), 4.6), 10.4) == []


def test_b401_a_rest_is_told_and_heard_as_long_as_it_lasts() -> None:
    """A 429 of one is a rest of all; that a member lacks a model is no news."""
    mine, other = sharing(), sharing("other")
    (put,) = mine.rested("a", 30.0, FailureKind.RATE_LIMITED, 10.0)
    assert isinstance(put, Put)
    assert mine.rested("a", 30.2, FailureKind.RATE_LIMITED, 10.1) == []
    assert mine.rested("a", 30.0, FailureKind.NOT_FOUND, 10.0) == []
    (say,) = other.looked(lying(put.word, 29.0, REST), 11.0)
    assert say == Say("a", ReportedState.COOLING, 29.0, "host:me", FailureKind.RATE_LIMITED)
    assert other.looked(lying(put.word, 28.0, REST), 12.0) == []


def test_b402_a_word_that_was_lost_is_put_again_while_it_holds() -> None:
    """One's own: by what lies there it is seen that it does not."""
    mine = sharing()
    (put,) = mine.rested("a", 30.0, FailureKind.RATE_LIMITED, 10.0)
    assert isinstance(put, Put)
    (again,) = mine.looked({}, 15.0)
    assert again == Put(REST, put.word, 25.0)
    assert mine.looked({}, 41.0) == []


def test_b403_a_store_that_is_away_is_told_once_and_so_is_its_return() -> None:
    """However often it is tried in between."""
    mine = sharing()
    assert mine.failed("gone", 1.0) == [Alone("gone")]
    assert mine.failed("gone", 2.0) == []
    assert not mine.polls(2.5)
    assert mine.polls(3.0)
    assert mine.looked({}, 3.0) == [Back()]
    assert mine.looked({}, 4.0) == []


@pytest.mark.parametrize(
    "witness",
    [
        Looked(),
        Looked(9.9),
        Looked(10.3, failed_at=9.5),
        Looked(10.3, failed_at=10.1),
    ],
)
def test_b406_who_has_failed_as_well_is_no_witness(witness: Looked) -> None:
    """Nor who has not answered since, or is out, or has just come back."""
    mine = sharing()
    mine.opened("a", 5.0, DOWN, False, 10.0)
    assert mine.members({"b": witness}, 10.5) == []
    mine.opened("b", 0.2, DOWN, False, 10.5)
    well = {"b": Looked(10.6)}
    assert mine.members(well, 10.6) == []
    mine.half_opened("b", 10.7)
    mine.closed("b", False, 10.8)
    assert mine.members({"b": Looked(10.9)}, 10.9) == []
    (put,) = mine.members({"b": Looked(10.9), "c": Looked(10.9, failed_at=7.0)}, 11.0)
    assert isinstance(put, Put)


# -- processes together


@pytest.mark.parametrize("seed", range(5))
def test_b404_a_dead_member_costs_one_process_and_one_trial(seed: int) -> None:
    """The others call it no more from a tenth of a second on, and the finder alone tries it."""
    town = Town(seed=seed)
    town.run(1.0)
    town.down.add("a")
    quick, others = town.processes[0], town.processes[1:]
    for each in others:
        each.busy = False
    town.run(4 * STEP_S)
    assert quick.breakers["a"].state is OPEN
    opened = town.now
    for each in others:
        each.busy = True
    town.run(0.1)
    town.down.clear()
    town.until_closed()
    assert [len(each.calls_of("a", opened + 0.1)) for each in others] == [0, 0, 0]
    assert len(quick.calls_of("a", opened)) == 1
    assert town.now < opened + 1.5 * RESET_S
    assert set(town.states("b")) == {CLOSED}


@pytest.mark.parametrize("seed", range(5))
def test_b404_all_find_it_at_once_and_one_of_them_tries(seed: int) -> None:
    """Whose word lies there in the end."""
    town = Town(seed=seed)
    town.run(1.0)
    town.down.add("a")
    town.run(0.2)
    assert set(town.states()) == {OPEN}
    opened = town.now
    town.run(3.0)
    town.down.clear()
    town.until_closed()
    assert town.trials("a", opened) == 1


def test_b404_a_trial_that_fails_keeps_all_of_them_out() -> None:
    """Again and again, with one call each time."""
    town = Town()
    town.run(1.0)
    town.down.add("a")
    town.run(0.3)
    began = town.now
    town.run(40.0)
    calls = [len(each.calls_of("a", began)) for each in town.processes]
    assert sorted(calls)[:3] == [0, 0, 0]
    assert 3 <= max(calls) <= 8


def test_b404_nobody_else_begins_a_trial_while_one_goes_on() -> None:
    """It takes six seconds, and is said again meanwhile."""
    town = Town()
    for each in town.processes:
        each.trial_s = 0.5
    town.run(2.0)
    town.down.add("a")
    town.run(3.0)
    assert set(town.states()) == {OPEN}
    began = town.now
    town.down.clear()
    for each in town.processes:
        each.trial_s = 6.0
    town.until_closed()
    assert town.trials("a", began) == 1


@pytest.mark.parametrize("seed", range(8))
def test_b405_where_the_finder_dies_the_others_are_back_soon_after(seed: int) -> None:
    """Within the reset timeout and five seconds of its opening."""
    town = Town(seed=seed)
    town.run(1.0)
    town.down.add("a")
    quick = town.processes[0]
    for each in town.processes[1:]:
        each.busy = False
    town.run(0.2)
    opened, reopens_at = town.now, quick.breakers["a"].reopens_at
    assert reopens_at is not None
    quick.killed = True
    for each in town.processes[1:]:
        each.busy = True
    town.down.clear()
    town.until_closed()
    assert town.now <= reopens_at + 5.0
    # Two whose turn comes within one look of each other both try.
    assert town.trials("a", opened) <= 2


def test_b405_where_the_finder_has_no_requests_the_others_try() -> None:
    """Its breaker is half-open, and nobody waits for it."""
    town = Town()
    town.run(1.0)
    town.down.add("a")
    town.run(0.5)
    (finder,) = [each for each in town.processes if each.sharing._out["a"].found]
    finder.busy = False
    town.down.clear()
    reopens_at = finder.breakers["a"].reopens_at
    assert reopens_at is not None
    town.until_closed()
    assert town.now <= reopens_at + 5.0


@pytest.mark.parametrize("seed", range(5))
def test_b406_a_process_that_is_cut_off_tells_nothing(seed: int) -> None:
    """All of its members fail: the others go on as if nothing were, also when it is back."""
    town = Town(seed=seed)
    town.run(1.0)
    cut = town.processes[seed % 4]
    cut.cut = True
    town.run(12.0)
    cut.cut = False
    town.run(30.0)
    assert not town.store.puts
    assert {len(each.said(Say)) for each in town.processes} == {0}
    assert set(town.states()) == {CLOSED}


@pytest.mark.parametrize("seed", range(30))
def test_b406_however_short_or_often_it_is_cut_off(seed: int) -> None:
    """And whatever its calls take: three times, of four processes any."""
    rng = random.Random(seed)
    town = Town(seed=seed)
    for each in town.processes:
        each.trial_s = rng.choice((0.0, 0.1, 0.3))
    town.run(rng.uniform(0.2, 1.0))
    for _ in range(3):
        cut = rng.choice(town.processes)
        cut.cut = True
        town.run(rng.choice((0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 8.0)))
        cut.cut = False
        town.run(rng.choice((0.05, 0.2, 1.0, 4.0, 9.0)))
    assert not town.store.puts


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    loss=st.sampled_from([0.0, 0.3, 0.9]),
    lag_s=st.sampled_from([0.0, 0.1, 1.0]),
    lasts_s=st.floats(0.5, 20.0),
    kills=st.lists(st.integers(0, 3), max_size=2),
    away=st.booleans(),
)
def test_b407_whatever_the_store_does_nobody_is_worse_off_than_alone_for_long(
    seed: int, loss: float, lag_s: float, lasts_s: float, kills: list[int], away: bool
) -> None:
    """It loses words, shows them late, is away; processes are killed. In an outage each process
    calls the dead member no more often than its own breaker lets it, and after it all are back in
    the longest opening and what one waits for the others.
    """
    town = Town(seed=seed, loss=loss, lag_s=lag_s)
    town.run(1.0)
    town.down.add("a")
    town.run(0.3)
    town.store.away = away
    town.run(lasts_s)
    for number in kills:
        town.processes[number].killed = True
    town.store.away = False
    began = town.now
    town.down.clear()
    town.until_closed(limit_s=60.0)
    town.run(1.5)  # in which each looks at the store
    for each in town.processes:
        alone = POLICY.failure_threshold + lasts_s / RESET_S + 2
        assert len(each.calls_of("a", 101.0, began)) <= alone
        assert len(each.said(Alone)) <= 1
        assert len(each.said(Back)) == len(each.said(Alone)) or each.killed

"""Which spans are open: driven by the life of requests, without threads or OpenTelemetry."""

from __future__ import annotations

import random
from collections import Counter
from contextvars import Context, ContextVar, copy_context
from typing import Any

import pytest
from helpers_flow import World

from greenroom import FailureKind
from greenroom.otel.span_book import AttemptSpan, RequestSpan, SpanBook

MARK: ContextVar[str] = ContextVar("mark", default="nobody's")


class Notes:
    """Notes what is begun and what is ended, and gives each attempt a context of its own."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.beside: dict[str, list[str]] = {}
        self.turned: list[BaseException] = []

    def begin_request(self, request: RequestSpan, context: Context | None) -> None:
        self.begun.append(request)

    def begin_attempt(self, attempt: AttemptSpan, context: Context | None) -> Context | None:
        self.begun.append(attempt)
        self.beside[_name(attempt)] = [_name(each) for each in attempt.beside]
        inside = copy_context()
        inside.run(MARK.set, _name(attempt))
        return inside

    def end(self, span: RequestSpan | AttemptSpan) -> None:
        self.ended.append(span)

    def turned_away(self, error: BaseException) -> None:
        self.turned.append(error)

    def of(self, request: str) -> list[tuple[Any, ...]]:
        """How what belongs to a request has ended, in that order."""
        return [
            (_name(each), each.outcome)
            for each in self.ended
            if (each if isinstance(each, RequestSpan) else each.request).request_id == request
        ]

    @property
    def ends(self) -> Counter[int]:
        return Counter(map(id, self.ended))


def _name(span: RequestSpan | AttemptSpan) -> str:
    return span.request_id if isinstance(span, RequestSpan) else f"{span.member}#{span.number}"


def watched(*members: str, **config: Any) -> tuple[World, Notes, SpanBook]:
    notes = Notes()
    book = SpanBook(notes)
    return World(*members, observer=book, **config), notes, book


def test_each_attempt_ends_by_the_first_word_on_it() -> None:
    """What comes later, its report, that its slot is free, ends nothing again."""
    world, notes, book = watched("a", "b", request_timeout_s=10.0)
    world.ask("r")
    late = world.call("a")
    world.pass_(10.0)
    world.succeed(world.call("b"))
    world.fail(late)
    assert notes.of("r") == [("a#1", "failed"), ("b#2", "answered"), ("r", "answered")]
    assert set(notes.ends.values()) == {1}
    assert book.open_spans == 0
    assert not world.complaints


def test_a_request_and_its_attempts_say_how_long_they_took() -> None:
    """An attempt begins when it is given to its member, a wait for that is the request's."""
    world, notes, _ = watched("a")
    world.ask("first")
    world.ask("second")
    world.pass_(3.0)
    world.succeed(world.call(), after_s=3.0)
    world.pass_(2.0)
    world.succeed(world.call(), after_s=2.0)
    attempt, request = notes.ended[-2:]
    assert (attempt.began_at, attempt.ended_at, attempt.waited_s) == (103.0, 105.0, 3.0)
    assert (request.began_at, request.ended_at, request.waited_s) == (100.0, 105.0, 3.0)
    assert request.steps == [(100.0, None)]
    assert request.member == "a"


def test_a_pause_and_a_retry() -> None:
    """A pause before the next attempt is a step of the request; the attempt after it a retry."""
    world, notes, _ = watched("a", max_retries=2)
    world.ask("r")
    world.fail(world.call())
    world.pass_(30.0)
    world.succeed(world.call())
    first, second, request = notes.ended
    assert (first.kind, first.is_retry) == (FailureKind.UNAVAILABLE, False)
    assert second.is_retry
    ((at, pause_s),) = request.steps
    assert at == 100.0
    assert pause_s is not None
    assert pause_s >= 0
    assert request.attempts == 2


def test_a_hedge_is_linked_to_what_it_runs_beside() -> None:
    """The one that answers first ends its request; the other has lost."""
    world, notes, _ = watched("a", "b", hedge_after_s=1.0)
    world.ask("r")
    world.pass_(1.0)
    assert notes.beside == {"a#1": [], "b#2": ["a#1"]}
    world.succeed(world.call("b"))
    assert sorted(notes.of("r")) == [("a#1", "lost_race"), ("b#2", "answered"), ("r", "answered")]
    assert not any(each.is_retry for each in notes.begun if isinstance(each, AttemptSpan))


def test_a_cancelled_request_and_one_out_of_time() -> None:
    """Both end with their attempt, whatever its member does afterwards."""
    world, notes, book = watched("a", "b")
    world.ask("mine")
    world.ask("short", timeout=2.0)
    assert world.flow.cancel("mine")
    world.pass_(2.0)
    assert notes.of("mine") == [("a#1", "caller"), ("mine", "cancelled")]
    assert [name for name, _ in notes.of("short")] == ["b#1", "short"]
    assert notes.of("short")[-1] == ("short", "failed")
    assert book.open_spans == 0


def test_the_agent_begins_in_the_context_of_its_span() -> None:
    """What the spans' side returns is what the member is given, for each attempt its own."""
    world, _, _ = watched("a", "b")
    world.ask("r")
    first = world.call("a").message.context
    world.fail(world.call("a"))
    second = world.call("b").message.context
    assert first is not None
    assert second is not None
    assert (first[MARK], second[MARK]) == ("a#1", "b#2")
    assert MARK.get() == "nobody's"


def test_who_is_turned_away_has_no_span() -> None:
    """An id that is in use, say: the request that has it goes on."""
    world, notes, book = watched("a")
    world.ask("r")
    world.ask("r")
    (error,) = notes.turned
    assert isinstance(error, ValueError)
    assert book.open_requests == 1
    assert len(notes.begun) == 2


def test_the_end_of_the_pool_ends_every_span() -> None:
    """What has no end yet has its end then, and nothing begins afterwards."""
    world, notes, book = watched("a")
    world.ask("runs")
    world.ask("waits")
    world.flow.fail_all("the pool was stopped")
    book.close(world.now)
    assert notes.of("runs") == [("a#1", "stopping"), ("runs", "failed")]
    assert notes.of("waits") == [("waits", "failed")]
    assert book.open_spans == 0
    book.close(world.now)
    assert set(notes.ends.values()) == {1}


def test_a_report_that_nobody_reads_any_more_is_an_answer() -> None:
    """Its asker has been answered on the spot, whatever the router knows."""
    world, notes, book = watched("a")
    world.ask("r")
    book.close(world.now)
    assert notes.of("r") == [("a#1", "answered"), ("r", "answered")]
    assert notes.ended[-1].member == "a"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_span_ends_once(seed: int) -> None:
    """Random lives: failures, hedges, restarts, cancellations, members that are gone, time."""
    rng = random.Random(seed)
    world, notes, book = watched(
        "a", "b", "c", hedge_after_s=1.0, max_retries=3, request_timeout_s=20.0, max_pending=4
    )
    for number in range(300):
        match rng.randrange(9):
            case 0 | 1 | 2:
                world.ask(f"r{number}", timeout=rng.choice((None, 5.0)))
            case 3 | 4 if world.calls:
                world.succeed(rng.choice(world.calls), after_s=0.0)
            case 5 if world.calls:
                kinds = (FailureKind.UNAVAILABLE, FailureKind.CALLER, FailureKind.RATE_LIMITED)
                world.fail(rng.choice(world.calls), rng.choice(kinds))
            case 6 if world.flow.jobs:
                world.flow.cancel(rng.choice(list(world.flow.jobs)))
                world.settle()
            case 7:
                name = rng.choice(("a", "b", "c"))
                if rng.random() < 0.3:
                    world.gone.add(name)
                else:
                    world.restart(name)
            case _:
                world.pass_(rng.choice((0.2, 1.0, 6.0)))
    assert len(notes.begun) > 100
    # Open is what is in flight, and attempts that nobody has heard of.
    assert book.open_requests == len(world.flow.jobs)
    world.flow.fail_all("the end")
    book.close(world.now)
    assert Counter(map(id, notes.begun)) == notes.ends
    assert set(notes.ends.values()) == {1}
    assert all(each.ended_at >= each.began_at for each in notes.ended)
    assert not world.complaints

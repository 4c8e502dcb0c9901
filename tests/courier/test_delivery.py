"""What becomes of a tell that was received: the decisions, without threads or an engine."""

from __future__ import annotations

import random

import pytest

from greenroom import (
    AllPoolMembersFailedError,
    AttemptError,
    DeadlineExceededError,
    FailureKind,
    PoolSaturatedError,
    PoolStoppedError,
    Request,
    RequestCancelledError,
    SkipReason,
    UnknownMemberError,
)
from greenroom.courier.courier_store import (
    KNOWN_FOR_S,
    Again,
    Bury,
    CourierRules,
    Done,
    Reason,
    Receipt,
    Record,
)
from greenroom.courier.delivery import PARKED_S, Deliveries, Give, Verdict
from greenroom.courier.parcel import packed

RULES = CourierRules(max_deliveries=3, backoff_s=2.0, max_backoff_s=60.0)


def deliveries(rules: CourierRules = RULES) -> Deliveries:
    return Deliveries(rules, random.Random(1))


def receipt(
    request_id: str = "a", count: int = 1, failures: int = 0, token: object = 0, **options: bool
) -> Receipt:
    body = packed(Request("payload", **options), request_id)  # type: ignore[arg-type]
    return Receipt(request_id, body, Record(count, failures), token)


def failed(*kinds: FailureKind | SkipReason, retry_after_s: float | None = None) -> Exception:
    """What a pool answers whose members did so."""
    errors = [
        AttemptError(f"m{at}", at, kind, None if isinstance(kind, SkipReason) else OSError("text"))
        for at, kind in enumerate(kinds)
    ]
    names = [each.member for each in errors]
    return AllPoolMembersFailedError("web", names, errors, retry_after_s=retry_after_s)


def settled(found: Give | Verdict) -> object:
    assert isinstance(found, Verdict)
    return found.settlement


def give(taken: Deliveries, what: Receipt) -> None:
    assert isinstance(taken.received(what, 0.0), Give)


def test_b489_it_is_given_as_it_was_told_and_forgotten_when_done() -> None:
    """With its id; it is in hand until then."""
    taken = deliveries()
    found = taken.received(receipt(), 0.0)
    assert isinstance(found, Give)
    assert (found.request.payload, found.request.request_id) == ("payload", "a")
    assert [each.request_id for each in taken.receipts()] == ["a"]
    assert isinstance(taken.answered("a", None, True, 1.0).settlement, Done)
    assert len(taken) == 0


def test_b494_an_id_that_is_told_anew_later_is_worked_on() -> None:
    """What comes soon is the same tell, delivered again; what comes later has been told again."""
    taken = deliveries()
    give(taken, receipt())
    taken.answered("a", None, True, 10.0)
    assert isinstance(settled(taken.received(receipt(count=2), 10.0 + KNOWN_FOR_S / 2)), Done)
    assert isinstance(taken.received(receipt(), 11.0 + KNOWN_FOR_S), Give)


@pytest.mark.parametrize(
    "text",
    [
        *("[1,-5,9,[]]", "[1,0,1,[]]", "[1,Infinity,0,[]]", "[1,1e300,0,[]]", '[1,"2",0,[]]'),
        *(
            '[1,2,1,[[Infinity,1,"x"]]]',
            "[1,2,1,5]",
            "[" * 100_000,
            "[1,1,1,[[1,NaN,1]]]",
            "[2,2,1,[]]",
            "{}",
            "x",
            "",
        ),
        f"[1,{10**40},0,[]]",
    ],
    ids=lambda text: text[:20],
)
def test_b495_a_record_that_cannot_be_says_nothing(text: str) -> None:
    """Whoever reads it goes on."""
    assert Record.read(text) == Record()


def test_b489_a_failure_is_retried_after_a_growing_backoff_with_its_reason() -> None:
    """Half of it is jitter; a Retry-After is the least."""
    taken = deliveries()
    for count, longest in ((1, 2.0), (2, 4.0)):
        give(taken, receipt(count=count, failures=count - 1))
        verdict = taken.answered("a", failed(FailureKind.UNKNOWN), True, 7.0)
        again = verdict.settlement
        assert isinstance(again, Again)
        assert longest / 2 <= again.after_s <= longest
        assert verdict.retried_in_s == again.after_s
        assert again.record == Record(count, count, (Reason(count, 7.0, "m0: unknown (OSError)"),))
    give(taken, receipt("b"))
    throttled = failed(FailureKind.RATE_LIMITED, retry_after_s=30.0)
    again = taken.answered("b", throttled, True, 7.0).settlement
    assert isinstance(again, Again)
    assert again.after_s == 30.0


def test_b490_after_so_many_failures_it_is_dead_with_its_reasons() -> None:
    """Kinds and types: no text of an error, which may repeat a payload."""
    taken = deliveries()
    known = Record(2, 2, (Reason(1, 0.0, "first"), Reason(2, 0.0, "second")))
    give(taken, Receipt("a", receipt().body, Record(3, 2, known.reasons), 0))
    verdict = taken.answered("a", ValueError("payload"), True, 9.0)
    bury = verdict.settlement
    assert isinstance(bury, Bury)
    assert verdict.dead
    assert [each.what for each in bury.record.reasons] == ["first", "second", "ValueError"]
    assert (bury.record.deliveries, bury.at) == (3, 9.0)


def test_b490_what_ends_its_process_is_dead_on_receipt() -> None:
    """It was counted on receipt each time, and nothing was heard of it after that."""
    taken = deliveries()
    give(taken, receipt(count=3))
    other = deliveries()
    bury = settled(other.received(receipt(count=4), 5.0))
    assert isinstance(bury, Bury)
    said = "its process was gone before there was an outcome, 3 of 3 times"
    assert bury.record.reasons[-1].what == said
    assert len(other) == 0


def test_b491_of_those_that_may_have_ended_a_process_one_at_a_time_is_worked_on() -> None:
    """The next goes back, uncounted, until the first is heard of; new ones are not held up."""
    taken = deliveries()
    give(taken, receipt("a", count=2))
    again = settled(taken.received(receipt("b", count=2), 0.0))
    assert isinstance(again, Again)
    assert again.record.deliveries == 1
    assert 0 < again.after_s <= 1.0
    give(taken, receipt("c", count=1))
    give(
        taken, receipt("d", count=2, failures=1)
    )  # its first delivery has failed, and was heard of
    taken.answered("a", None, True, 0.0)
    give(taken, receipt("b", count=2))


@pytest.mark.parametrize(
    "error",
    [
        failed(SkipReason.CIRCUIT_OPEN, SkipReason.NOT_NAMED),
        failed(FailureKind.UNAVAILABLE, SkipReason.CIRCUIT_OPEN),
        PoolSaturatedError("web", 9, 1.5),
        PoolStoppedError("web"),
        DeadlineExceededError("web", 3.0),
    ],
)
def test_b492_without_a_member_it_is_parked_and_not_counted(error: Exception) -> None:
    """Whatever it is by that nobody was there: nothing is burned."""
    taken = deliveries()
    give(taken, receipt(count=3, failures=2))
    verdict = taken.answered("a", error, False, 0.0)
    again = verdict.settlement
    assert isinstance(again, Again)
    assert (again.record.deliveries, again.record.failures) == (2, 2)
    assert verdict.retried_in_s is None
    if isinstance(error, PoolStoppedError):
        assert again.after_s == 0
    else:
        assert 0 < again.after_s <= PARKED_S


@pytest.mark.parametrize(
    "error",
    [
        failed(SkipReason.NOT_NAMED, SkipReason.EXCLUDED),
        failed(SkipReason.NOT_ACCEPTED),
        failed(FailureKind.UNKNOWN, SkipReason.CIRCUIT_OPEN),
        failed(FailureKind.TIMEOUT),
        DeadlineExceededError("web", 3.0, [AttemptError("m", 0, FailureKind.TIMEOUT)]),
        UnknownMemberError("nobody"),
        ValueError("x"),
    ],
)
def test_b492_what_waiting_cannot_help_is_counted(error: Exception) -> None:
    """Though nobody is available: else it would go round for ever."""
    taken = deliveries()
    give(taken, receipt(count=3, failures=2))
    assert isinstance(taken.answered("a", error, False, 0.0).settlement, Bury)


def test_b492_what_fails_although_others_are_well_is_counted() -> None:
    """It may be the tell that is odd: that a member is away is not the only reason there may be."""
    taken = deliveries()
    give(taken, receipt())
    found = taken.answered("a", failed(FailureKind.UNAVAILABLE), True, 0.0).settlement
    assert isinstance(found, Again)
    assert found.record.deliveries == 1


def test_b493_one_that_is_not_idempotent_is_begun_once() -> None:
    """It is dead after whatever may have begun, and on its second receipt; but a pool that has not
    begun gives it back.
    """
    taken = deliveries()
    give(taken, receipt("a", idempotent=False))
    assert isinstance(taken.answered("a", PoolStoppedError("x"), True, 0.0).settlement, Bury)
    give(taken, receipt("b", idempotent=False))
    refused = PoolStoppedError("x", refused=True)
    assert isinstance(taken.answered("b", refused, True, 0.0).settlement, Again)
    found = settled(deliveries().received(receipt("c", count=2, idempotent=False), 0.0))
    assert isinstance(found, Bury)


def test_b494_what_is_delivered_twice_is_worked_on_once_here() -> None:
    """While it is in hand, and after: the engine may have forgotten, or its lease have ended."""
    taken = deliveries()
    give(taken, receipt("a", token="first"))
    assert settled(taken.received(receipt("a", count=2, token="second"), 0.0)) is None
    assert len(taken) == 1
    done = taken.answered("a", None, True, 0.0).settlement
    assert isinstance(done, Done)
    assert done.receipt.token == "second"  # the first is nobody's any more
    again = settled(taken.received(receipt("a", count=3, token="third"), 0.0))
    assert isinstance(again, Done)
    assert again.receipt.token == "third"


def test_b494_one_that_was_cancelled_by_its_id_is_set_aside() -> None:
    """It is never lost in silence."""
    taken = deliveries()
    give(taken, receipt())
    bury = taken.answered("a", RequestCancelledError("x"), True, 0.0).settlement
    assert isinstance(bury, Bury)
    assert bury.record.reasons[-1].what == "cancelled"


def test_b494_one_that_cannot_be_read_is_dead_in_the_end() -> None:
    """A newer version may read it, so it is tried as often as any."""
    taken = deliveries()
    broken = Receipt("a", b"noise", Record(1, 0), 0)
    again = settled(taken.received(broken, 0.0))
    assert isinstance(again, Again)
    assert again.record.reasons[-1].what.startswith("unreadable: ")
    found = settled(taken.received(Receipt("a", b"noise", Record(3, 2), 0), 0.0))
    assert isinstance(found, Bury)


def test_b495_a_record_comes_back_as_it_was() -> None:
    """The last ten reasons of it; what is none says nothing."""
    reasons = tuple(Reason(at, at / 2, f"m: kind {at}") for at in range(1, 15))
    record = Record(14, 13, reasons)
    assert Record.read(record.text()) == Record(14, 13, reasons[-10:])
    assert Record.read(record.text().encode()) == Record(14, 13, reasons[-10:])
    for odd in ("", None, "[]", "[2, 1, 1, []]", "noise", '{"a": 1}', "[1, 2, 3, [[1]]]"):
        assert Record.read(odd) == Record()

"""Whose fault the failures of requests are: the supervisor's ledger and the router's account."""

from __future__ import annotations

import pytest

from greenroom.actors.policy.blame import Blame
from greenroom.messages import FailureKind, RequestSettled
from greenroom.supervisors.policy.provisional_failures import PASSING, Case, ProvisionalFailures

TIMEOUT, UNKNOWN, AUTH = FailureKind.TIMEOUT, FailureKind.UNKNOWN, FailureKind.AUTH
COUNTED = [kind for kind in FailureKind if kind.counts_for_breaker]


def settle(
    ledger: ProvisionalFailures,
    request_id: str,
    kind: FailureKind | None,
    everywhere: bool = True,
    in_doubt: bool = False,
) -> list[str]:
    """Whom the failures of a request are taken back from."""
    end = RequestSettled(request_id=request_id, kind=kind, everywhere=everywhere)
    return list(ledger.settle(end, lambda _: in_doubt)[1])


def at_fault(
    ledger: ProvisionalFailures, kind: FailureKind, members: str = "ab", **more: bool
) -> bool:
    """Whether a request that fails like that on all of them is found to be at fault itself."""
    for member in members:
        ledger.failed("r", member)
    spared = settle(ledger, "r", kind, **more)
    assert spared in ([], list(members))
    return bool(spared)


# -- the ledger


@pytest.mark.parametrize("kind", COUNTED)
def test_what_failed_alike_on_two_members_is_taken_back_from_both(kind: FailureKind) -> None:
    """Whatever the kind: the request says whether it can be its own fault."""
    assert at_fault(ProvisionalFailures(5), kind)
    assert at_fault(ProvisionalFailures(5), kind, "abcd")


def test_what_failed_on_one_member_is_the_members() -> None:
    """There is nobody to compare it with; nor is there where the failures differ."""
    assert not at_fault(ProvisionalFailures(5), TIMEOUT, "a")
    ledger = ProvisionalFailures(5)
    ledger.failed("r", "a")
    ledger.failed("r", "b")
    assert settle(ledger, "r", None) == []


def test_a_request_has_one_number_until_it_ends() -> None:
    """However often it fails; one that comes later by the same id has another."""
    ledger = ProvisionalFailures(5)
    case = ledger.failed("r", "a")
    assert ledger.failed("r", "a") is case
    assert ledger.failed("r", "b") is case
    assert (case.members, len(ledger)) == (["a", "b"], 1)
    settle(ledger, "r", TIMEOUT)
    assert len(ledger) == 0
    assert ledger.failed("r", "a").number > case.number
    assert ledger.failed("s", "a").number > case.number + 1


def test_an_end_without_a_case_says_nothing() -> None:
    """As of a request whose failures were all pardoned."""
    none: tuple[Case | None, list[str]] = (None, [])
    case, spared = ProvisionalFailures(5).settle(RequestSettled(request_id="r", kind=TIMEOUT))
    assert (case, list(spared)) == none


@pytest.mark.parametrize(("threshold", "limit"), [(1, 10), (5, 10), (6, 12), (40, 80)])
@pytest.mark.parametrize("kind", sorted(PASSING))
def test_a_total_outage_is_not_the_fault_of_requests(
    kind: FailureKind, threshold: int, limit: int
) -> None:
    """Twice the threshold in a row, at least ten, and nobody has answered: it is an outage."""
    ledger = ProvisionalFailures(threshold)
    assert [at_fault(ledger, kind) for _ in range(limit + 3)] == [True] * limit + [False] * 3
    ledger.answered("z")
    assert at_fault(ledger, kind)


def test_an_answer_in_between_says_that_it_is_no_outage() -> None:
    """Of whichever member: nine, an answer, nine, and so on."""
    ledger = ProvisionalFailures(5)
    for _ in range(5):
        assert all(at_fault(ledger, TIMEOUT) for _ in range(9))
        ledger.answered("a")


@pytest.mark.parametrize("kind", [UNKNOWN, AUTH])
def test_what_no_network_can_do_follows_the_request_however_many(kind: FailureKind) -> None:
    """A payload that no agent can read, a text that every provider refuses."""
    ledger = ProvisionalFailures(5)
    assert all(at_fault(ledger, kind) for _ in range(100))


@pytest.mark.parametrize("kind", [UNKNOWN, TIMEOUT])
def test_who_was_not_asked_might_have_answered(kind: FailureKind) -> None:
    """A request without retries left is at fault ten times; then its members are, until they answer
    themselves. What others answer is of no interest.
    """
    ledger = ProvisionalFailures(5)
    for _ in range(10):
        assert at_fault(ledger, kind, everywhere=False)
        ledger.answered("c")
    assert not at_fault(ledger, kind, everywhere=False)
    ledger.answered("a")
    ledger.failed("r", "a")
    ledger.failed("r", "b")
    assert settle(ledger, "r", kind, everywhere=False) == ["a"]


def test_one_member_is_enough_while_others_are_out_in_doubt() -> None:
    """Requests that come together: the first ones have opened a breaker and are not at their end,
    those behind them find one member less.
    """
    ledger = ProvisionalFailures(5)
    assert [at_fault(ledger, UNKNOWN, "a", in_doubt=True) for _ in range(11)] == [True] * 10 + [
        False
    ]


# -- what a request knows


@pytest.mark.parametrize(
    ("failures", "kind", "alike"),
    [
        ([], None, False),
        ([("a", TIMEOUT)], TIMEOUT, False),
        ([("a", TIMEOUT), ("a", TIMEOUT)], TIMEOUT, False),
        ([("a", TIMEOUT), ("b", TIMEOUT)], TIMEOUT, True),
        ([("a", TIMEOUT), ("b", UNKNOWN)], None, False),
        ([("a", AUTH), ("b", AUTH), ("c", AUTH)], AUTH, True),
    ],
)
def test_alike_is_one_kind_on_two_members(
    failures: list[tuple[str, FailureKind]], kind: FailureKind | None, alike: bool
) -> None:
    """Where nobody is to blame at once."""
    blame = Blame()
    for member, each in failures:
        blame.add(member, each, opens_at_once=False)
    assert (blame.kind, blame.alike, blame.counts) == (kind, alike, bool(failures))


def test_what_opens_at_once_is_never_the_requests_fault() -> None:
    """A key that is not valid anywhere says nothing of the request."""
    blame = Blame()
    blame.add("a", AUTH, opens_at_once=False)
    blame.add("b", AUTH, opens_at_once=True)
    assert (blame.kind, blame.alike, blame.counts) == (None, False, True)

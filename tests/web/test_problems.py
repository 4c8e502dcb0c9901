"""What a client is told of each error, by lists of them. Behaviour 200."""

from __future__ import annotations

import re

import pytest
from helpers_pages import DOCS, names, rows

import greenroom
from greenroom import (
    AgentTypeError,
    AllPoolMembersFailedError,
    AskTimeoutError,
    AttemptError,
    DeadlineExceededError,
    FailureKind,
    ForkedPoolError,
    PayloadError,
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    ReentrantAskError,
    RequestCancelledError,
    ResourceError,
    SkipReason,
    StrategyError,
    StreamInterruptedError,
    TellNotStoredError,
    UnsuccessfulResultError,
)
from greenroom.web.problems import Row, problem_of

SECRET = "sk-backend-1"
Kinds = list[FailureKind | SkipReason]
K, S = FailureKind, SkipReason


def attempts(kinds: Kinds) -> list[AttemptError]:
    cause = ConnectionError(SECRET)
    return [
        AttemptError(f"m{at}", at, kind, cause if isinstance(kind, FailureKind) else None)
        for at, kind in enumerate(kinds)
    ]


def all_failed(kinds: Kinds, retry_after_s: float | None = None) -> AllPoolMembersFailedError:
    failed = attempts(kinds)
    names = [each.member for each in failed]
    return AllPoolMembersFailedError("p", names, failed, retry_after_s=retry_after_s)


BY_KINDS: list[tuple[Kinds, Row]] = [
    ([], Row.UNAVAILABLE),
    ([K.TOO_LARGE, K.TOO_LARGE], Row.TOO_LONG),
    ([K.TOO_LARGE, S.EXCLUDED], Row.TOO_LONG),
    ([K.TOO_LARGE, K.UNAVAILABLE], Row.UNAVAILABLE),
    ([K.TOO_LARGE, S.CIRCUIT_OPEN], Row.UNAVAILABLE),
    ([K.RATE_LIMITED, S.COOLING_DOWN], Row.RATE_LIMITED),
    ([S.COOLING_DOWN, S.COOLING_DOWN], Row.RATE_LIMITED),
    ([K.RATE_LIMITED, K.UNAVAILABLE], Row.UNAVAILABLE),
    ([K.TIMEOUT, K.TIMEOUT], Row.TIMEOUT),
    ([K.AUTH, K.QUOTA, K.NOT_FOUND], Row.SET_UP),
    ([K.AUTH, S.CIRCUIT_OPEN], Row.UNAVAILABLE),
    ([S.CIRCUIT_OPEN, S.SATURATED], Row.UNAVAILABLE),
    ([K.CRASHED, K.UNKNOWN], Row.UNAVAILABLE),
]


@pytest.mark.parametrize(("kinds", "row"), BY_KINDS)
def test_what_became_of_all_members(kinds: Kinds, row: Row) -> None:
    """One kind of failure everywhere has a status of its own; what is mixed may pass."""
    problem = problem_of(all_failed(kinds))
    assert (problem.status, problem.code) == (row.status, row.code)
    assert SECRET not in problem.message
    assert [f"m{at}" in problem.message for at in range(len(kinds))] == [True] * len(kinds)


def test_members_that_are_pools_count_by_their_own() -> None:
    """However deep they are."""
    inner = all_failed([K.RATE_LIMITED, S.COOLING_DOWN])
    outer = AllPoolMembersFailedError(
        "p", ["inner"], [AttemptError("inner", 0, K.UNAVAILABLE, inner)]
    )
    assert problem_of(outer).status == 429


def test_of_very_many_members_some_are_named() -> None:
    """A message stays one that can be read."""
    message = problem_of(all_failed([K.UNAVAILABLE] * 500)).message
    assert message.endswith("and 480 more")


def test_when_to_come_back() -> None:
    """As the pool says, rounded up; a second where nobody does; never beside what will not pass."""
    assert problem_of(all_failed([S.COOLING_DOWN], 7.2)).headers() == {"Retry-After": "8"}
    assert problem_of(all_failed([K.CRASHED])).headers() == {"Retry-After": "1"}
    assert problem_of(all_failed([K.AUTH], 300.0)).headers() == {}


def interrupted(cause: BaseException) -> StreamInterruptedError:
    error = StreamInterruptedError("p", "m", attempts([K.UNAVAILABLE]), ["x"], 1)
    error.__cause__ = cause
    return error


ERRORS: list[tuple[Exception, Row]] = [
    (PoolSaturatedError("p", 9, 2.5), Row.SATURATED),
    (DeadlineExceededError("p", 1.0, attempts([K.UNAVAILABLE])), Row.TIMEOUT),
    (PoolStoppedError(f"pool has stopped {SECRET}"), Row.ENDING),
    (RequestCancelledError("by id"), Row.CANCELLED),
    (ResourceError("no thread"), Row.UNAVAILABLE),
    (StrategyError(SECRET), Row.INTERNAL),
    # It ends no server: whoever comes again finds the same mistake of the app.
    (ForkedPoolError(SECRET, 1, 2), Row.INTERNAL),
    (TimeoutError(SECRET), Row.TIMEOUT),  # a limit of the app's own around the await
    (UnsuccessfulResultError("flagged", kind=K.CALLER), Row.FILTERED),
    (interrupted(ConnectionError(SECRET)), Row.BROKE_OFF),
    (interrupted(TimeoutError(SECRET)), Row.TIMEOUT),
    (interrupted(PoolStoppedError(SECRET)), Row.ENDING),
    (interrupted(UnsuccessfulResultError("flagged", kind=K.CALLER)), Row.FILTERED),
    (ValueError("your text is odd"), Row.INVALID),
]


@pytest.mark.parametrize(("error", "row"), ERRORS, ids=[str(each[1].name) for each in ERRORS])
def test_each_error_has_its_row(error: Exception, row: Row) -> None:
    """With its type, and without what members have said of themselves."""
    problem = problem_of(error)
    assert (problem.status, problem.type, problem.code) == (row.status, row.type, row.code)
    assert SECRET not in problem.message
    assert problem.body()["error"]["message"] == problem.message


def test_an_error_that_cannot_be_looked_at() -> None:
    """Is told as what it is: nothing of it is lost but its words."""

    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        @property
        def body(self) -> str:
            raise RuntimeError

    problem = problem_of(Hostile())
    assert (problem.status, problem.message) == (400, "Hostile")


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    """Every row, with its status, code and whether there is a Retry-After."""
    said = {
        (int(row[1]), re.sub(r"`|, or.*", "", row[2]), row[3] == "yes")
        for row in rows(DOCS / "serving.md", "what happened")
    }
    assert said == {(row.status, row.code or "none", row.waits) for row in Row}


PAGE: list[tuple[str, Exception]] = [
    ("`AllPoolMembersFailedError`, in whatever ways", all_failed([K.UNAVAILABLE, K.TIMEOUT])),
    ("the same, all of them throttled or resting", all_failed([K.RATE_LIMITED, S.COOLING_DOWN])),
    ("the same, each with a wrong key, account or model", all_failed([K.AUTH, K.QUOTA])),
    ("the same, all of them too slow", all_failed([K.TIMEOUT])),
    ("the same, too long a request for each", all_failed([K.TOO_LARGE])),
    ("`PoolSaturatedError`", PoolSaturatedError("p", 9, 2.5)),
    ("`TellNotStoredError`", TellNotStoredError("p", "full")),
    ("`DeadlineExceededError`", DeadlineExceededError("p", 1.0)),
    ("`DeadlineExceededError`, `AskTimeoutError`", AskTimeoutError("p", 1.0)),
    ("`DeadlineExceededError`, `AskTimeoutError`, a `TimeoutError`", TimeoutError()),
    ("`StreamInterruptedError`", interrupted(ConnectionError())),
    ("`RequestCancelledError`", RequestCancelledError()),
    ("`PoolStoppedError`", PoolStoppedError()),
    ("`ResourceError`", ResourceError()),
    ("`PayloadError`", PayloadError()),
    ("`UnsuccessfulResultError`", UnsuccessfulResultError("flagged", kind=K.CALLER)),
    ("an agent's own error", ValueError("your text is odd")),
    ("`ForkedPoolError`", ForkedPoolError("p", 1, 2)),
    ("`ForkedPoolError`, `ReentrantAskError`", ReentrantAskError()),
    ("`ForkedPoolError`, `ReentrantAskError`, `StrategyError`", StrategyError()),
    ("`ForkedPoolError`, `ReentrantAskError`, `StrategyError`, `AgentTypeError`", AgentTypeError()),
]


@pytest.mark.parametrize(("what", "error"), PAGE, ids=[each[0] for each in PAGE])
def test_the_page_for_handlers_says_the_same(what: str, error: Exception) -> None:
    """Of each error that a call of a pool raises."""
    (row,) = [row for row in rows(DOCS / "web.md", "what is raised") if row[0].startswith(what)]
    problem = problem_of(error)
    code = row[2].strip("`").removeprefix("its own, or ")
    assert (int(row[1]), code) == (problem.status, problem.code or "none")
    assert (row[3] == "yes") == ("Retry-After" in problem.headers())


def test_no_row_of_that_page_is_left_out() -> None:
    """Neither a row without an error here, nor an error of a caller's without a row."""
    page = [row[0] for row in rows(DOCS / "web.md", "what is raised")]
    assert [row for row in page if not any(row.startswith(what) for what, _ in PAGE)] == []
    named = {name for row in page for name in names(row)}
    assert named >= CALLERS


CALLERS = {
    name
    for name, kind in vars(greenroom).items()
    if isinstance(kind, type) and issubclass(kind, PoolError)
} - {
    "AttemptError",  # what became of one member; these are in others, never raised themselves
    "AttemptTimeoutError",
    "MemberCrashedError",
    "MemberExistsError",  # of commands, not of requests
    "UnknownMemberError",
    "AgentLostError",  # what an agent says of itself
    "RemoteError",
    "PoolError",
    "CircuitOpenError",  # of a breaker and of a chain on their own
    "EmptyChainError",
}

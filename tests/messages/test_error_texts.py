"""The errors of a pool: one tree, what they carry, and what they read like."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import greenroom.messages
from greenroom.messages import (
    AgentLostError,
    AgentTypeError,
    AllPoolMembersFailedError,
    AttemptError,
    AttemptTimeoutError,
    DeadlineExceededError,
    FailureKind,
    MemberCrashedError,
    MemberExistsError,
    PayloadError,
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    ReentrantAskError,
    RemoteError,
    RequestCancelledError,
    ResourceError,
    SkipReason,
    StrategyError,
    StreamInterruptedError,
    TellNotStoredError,
    UnknownMemberError,
    UnsuccessfulResultError,
)
from greenroom.messages.errors import summary
from greenroom.messages.pickling import RemoteCause

SLOW = AttemptError("claude", 0, FailureKind.TIMEOUT, TimeoutError("too slow"), 1.5, 2)
SKIPPED = AttemptError(
    "local", 1, SkipReason.CIRCUIT_OPEN, elapsed_s=0.0, attempts=0, detail="reopens in 12.0 s"
)
ERRORS = [
    PoolError("x"),
    SLOW,
    SKIPPED,
    AllPoolMembersFailedError("writers", ["claude", "local"], [SLOW, SKIPPED], "why", 12.0),
    AllPoolMembersFailedError("writers", [], []),
    PoolSaturatedError("writers", 9, 2.5),
    DeadlineExceededError("writers", 3.0, [SLOW]),
    DeadlineExceededError("writers", 3.0),
    RequestCancelledError("x"),
    PoolStoppedError("x"),
    PoolStoppedError("x", refused=True),
    ResourceError("x"),
    TellNotStoredError("writers", "full", "9 tells lie there"),
    TellNotStoredError("writers", "away", maybe=True),
    ReentrantAskError("x"),
    AttemptError(
        "inner",
        0,
        FailureKind.RATE_LIMITED,
        AllPoolMembersFailedError("inner", ["local"], [SKIPPED]),
        started=False,
        retry_after_s=4.0,
    ),
    MemberCrashedError("x"),
    AttemptTimeoutError("x"),
    UnsuccessfulResultError("x"),
    StrategyError("x"),
    StreamInterruptedError("writers", "claude", [SLOW], ["a", "b"], 2),
    AgentLostError("x"),
    AgentLostError("x", started=False),
    RemoteError("x", kind=FailureKind.QUOTA, started=False, type="T", retry_after_s=3.0),
    AgentTypeError("x"),
    PayloadError("x"),
    MemberExistsError("x"),
    UnknownMemberError("x"),
]


def test_the_list_of_errors_is_complete() -> None:
    """Every error of the ground floor is in the tests below."""
    found = [getattr(greenroom.messages, name) for name in vars(greenroom.messages)["__all__"]]
    classes = {each for each in found if inspect.isclass(each) and issubclass(each, Exception)}
    assert {type(error) for error in ERRORS} == classes


def test_every_error_is_a_pool_error() -> None:
    """One tree; the errors that have a builtin meaning have that base as well."""
    assert all(isinstance(error, PoolError) for error in ERRORS)
    assert issubclass(DeadlineExceededError, TimeoutError)
    assert issubclass(AttemptTimeoutError, TimeoutError)
    assert issubclass(AgentTypeError, TypeError)
    assert issubclass(PayloadError, ValueError)
    assert issubclass(MemberExistsError, ValueError)
    assert issubclass(UnknownMemberError, KeyError)
    assert not issubclass(PoolSaturatedError, TimeoutError)


def plain(value: object) -> object:
    """An error as its type, text and attributes, all the way down."""
    if isinstance(value, BaseException):
        names = sorted(vars(value))
        return (type(value), str(value), [(name, plain(vars(value)[name])) for name in names])
    if isinstance(value, tuple):
        return tuple(plain(each) for each in value)
    return value


def abroad(value: object) -> object:
    """The same as it is elsewhere: an agent's error is its class and first line, chunks stay."""
    if isinstance(value, BaseException) and not isinstance(value, PoolError):
        return plain(RemoteCause.of(value))
    if isinstance(value, PoolError):
        kept = dict(vars(value), **({"received": ()} if hasattr(value, "received") else {}))
        return (type(value), str(value), [(name, abroad(kept[name])) for name in sorted(kept)])
    return tuple(abroad(each) for each in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: PoolError) -> None:
    """With type, text, attributes, arguments and cause, so that they can cross a process."""
    twin = copy.copy(error)
    assert plain(twin) == plain(error)
    assert twin.args == error.args
    assert twin.__cause__ is error.__cause__
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert plain(twin) == abroad(error)
        assert plain(twin.args) == abroad(error.args)
        assert plain(twin.__cause__) == abroad(error.__cause__)


def test_a_deadline_is_no_error_of_the_system() -> None:
    """Its base TimeoutError is an OSError, but its arguments are no errno and no file name."""
    error = DeadlineExceededError("writers", 3.0, [SLOW])
    assert (error.errno, error.strerror, error.filename) == (None, None, None)
    assert error.args == ("writers", 3.0, (SLOW,), False, 0.0)


def test_the_first_cause_is_chained() -> None:
    """A traceback shows what the first failed member raised."""
    assert SLOW.__cause__ is SLOW.error
    assert AllPoolMembersFailedError("p", ["a"], [SKIPPED, SLOW]).__cause__ is SLOW.error
    assert AllPoolMembersFailedError("p", ["a"], [SKIPPED]).__cause__ is None
    assert DeadlineExceededError("p", 1.0, [SLOW]).__cause__ is SLOW.error


def test_an_error_knows_whether_an_agent_may_have_begun() -> None:
    """Only where none has is it False: then even what is not idempotent may be sent again."""
    refused = AttemptError("a", 0, FailureKind.CREATE_FAILED, ValueError("x"), started=False)
    started = {
        str(error): error.started
        for error in (
            PoolSaturatedError("full", 9, 2.5),
            PoolStoppedError("refused", refused=True),
            AllPoolMembersFailedError("none", ["a", "b"], [refused, SKIPPED]),
            AllPoolMembersFailedError("empty", [], []),
            refused,
            SKIPPED,
        )
    }
    assert not any(started.values()), started
    assert all(
        error.started
        for error in (
            PoolStoppedError("x"),
            SLOW,
            AllPoolMembersFailedError("p", ["a", "b"], [SKIPPED, SLOW]),
            DeadlineExceededError("p", 1.0),
            RequestCancelledError("x"),
        )
    )


def test_a_member_that_is_a_pool_shows_what_became_of_its_own() -> None:
    """`errors` is the next level of the tree; whatever a deadline or a failure holds is printed."""
    deadline = DeadlineExceededError("mid", 3.0, [SLOW])
    error = AttemptError("mid", 0, FailureKind.TIMEOUT, deadline, 3.0)
    assert (error.errors, SLOW.errors, SKIPPED.errors) == ((SLOW,), (), ())
    assert str(error) == (
        "mid: timeout after 3.000 s: DeadlineExceededError: "
        "pool 'mid': deadline exceeded after 3.000 s"
    )
    assert str(DeadlineExceededError("top", 4.0, [error, SKIPPED])) == (
        f"pool 'top': deadline exceeded after 4.000 s\n  {error}\n    {SLOW}\n  {SKIPPED}"
    )
    assert summary(AllPoolMembersFailedError("top", ["mid"], [error])).count("\n") == 0


def test_an_error_takes_any_iterable() -> None:
    """And keeps a tuple, so that a reader may go over it twice."""
    error = AllPoolMembersFailedError("p", iter(["a"]), iter([SLOW]))
    assert (error.member_names, error.errors) == (("a",), (SLOW,))


def test_what_a_failed_request_reads_like() -> None:
    """One line on the request, one a member, in order, with kind, time and reason."""
    error = AllPoolMembersFailedError(
        "writers", ["claude", "local"], [SLOW, SKIPPED], "max_retries=3 reached", 12.0
    )
    assert str(error) == (
        "pool 'writers': no member could answer (max_retries=3 reached); retry after 12.0 s\n"
        "  claude: timeout after 1.500 s, 2 attempts: TimeoutError: too slow\n"
        "  local: skipped, circuit_open (reopens in 12.0 s)"
    )
    assert repr(error).startswith("AllPoolMembersFailedError('writers', ('claude', 'local'), (")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            AttemptError("a", 0, FailureKind.UNKNOWN, ValueError("bad\nworse"), 0.25),
            "a: unknown after 0.250 s: ValueError: bad",
        ),
        (AttemptError("a", 0, SkipReason.SATURATED, attempts=0), "a: skipped, saturated"),
        (AllPoolMembersFailedError("p", [], []), "pool 'p': no member could answer"),
        (
            PoolSaturatedError("p", 9, 2.5),
            "pool 'p' is saturated: 9 requests are waiting; retry after 2.50 s",
        ),
        (
            DeadlineExceededError("p", 3.0, [SLOW]),
            f"pool 'p': deadline exceeded after 3.000 s\n  {SLOW}",
        ),
        (UnknownMemberError("no member 'x' in pool 'p'"), "no member 'x' in pool 'p'"),
    ],
)
def test_what_errors_read_like(error: PoolError, text: str) -> None:
    """Short, with numbers and units; a member's error by its first line."""
    assert str(error) == text


def test_an_error_in_one_line() -> None:
    """Type and first line, at most 200 characters of it; a mute error is named."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert summary(ValueError("bad\nworse")) == "ValueError: bad"
    assert summary(ValueError()) == "ValueError"
    assert summary(ValueError("x" * 999)) == "ValueError: " + "x" * 200
    assert summary(Mute()) == "Mute"
    assert summary(None) == ""

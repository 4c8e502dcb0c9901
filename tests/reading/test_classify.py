"""What kind of failure an exception is, by its look alone."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import subprocess
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from helpers_client_errors import ERA
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.reading import classify as closely
from greenroom.actors.reading.classify import RETRY_AFTER_MAX_S, Verdict, classify
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptError,
    AttemptTimeoutError,
    DeadlineExceededError,
    MemberCrashedError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    StrategyError,
    UnsuccessfulResultError,
)
from greenroom.messages.status import FailureKind, SkipReason


class Odd(Exception):
    """An error of a client with whatever attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("odd")
        for name, value in attributes.items():
            setattr(self, name, value)


def kind_of(error: BaseException) -> str:
    return classify(error).kind.value


def named(name: str, *bases: type[BaseException]) -> BaseException:
    """An error of a class of that name, as a client defines it."""
    made: BaseException = type(name, bases or (Exception,), {})("x")
    return made


def kind_name(value: object) -> str:
    """A test's id, the same in every run."""
    return type(value).__name__


def caused(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause
    except BaseException as raised:
        return raised


def during(error: BaseException, context: BaseException) -> BaseException:
    try:
        try:
            raise context
        except BaseException:
            raise error  # noqa: B904 - the implicit context is what is tested
    except BaseException as raised:
        return raised


def rate_limited(**headers: str) -> Odd:
    """A 429 with those headers, underscores for dashes."""
    plain = {name.replace("_", "-"): value for name, value in headers.items()}
    return Odd(status_code=429, response=SimpleNamespace(headers=plain))


def wait_of(error: BaseException, wall_now: float = 0.0) -> float | None:
    return classify(error, wall_now=wall_now).retry_after_s


STATUSES = {
    400: "caller",
    401: "auth",
    402: "quota",
    403: "auth",
    404: "not_found",
    405: "caller",
    408: "timeout",
    407: "auth",
    409: "unavailable",
    410: "not_found",
    413: "too_large",
    422: "caller",
    424: "unavailable",
    425: "unavailable",
    429: "rate_limited",
    451: "caller",
    499: "unavailable",
    500: "unavailable",
    502: "unavailable",
    503: "unavailable",
    504: "timeout",
    529: "unavailable",
    599: "unavailable",
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_a_status_says_the_kind_wherever_it_is(status: int, kind: str) -> None:
    """HTTP clients put the status in one of five places."""
    assert kind_of(Odd(status_code=status)) == kind
    assert kind_of(Odd(status=status)) == kind
    assert kind_of(Odd(code=status)) == kind
    assert kind_of(Odd(response=SimpleNamespace(status_code=status))) == kind
    assert kind_of(Odd(response=SimpleNamespace(status=status))) == kind


def test_b27_the_kinds_that_decide_on_failover() -> None:
    """400: caller; 413: too_large; 401: auth."""
    assert classify(Odd(status_code=400)).kind is FailureKind.CALLER
    assert classify(Odd(status_code=413)).kind is FailureKind.TOO_LARGE
    assert classify(Odd(status_code=401)).kind is FailureKind.AUTH


def test_an_enum_is_a_status() -> None:
    """http.HTTPStatus is an int."""
    assert kind_of(Odd(status_code=HTTPStatus.TOO_MANY_REQUESTS)) == "rate_limited"


@pytest.mark.parametrize(
    "status", ["4290", "abc", None, True, 4.29, -1, 0, 42, 200, 302, 600, 10**30, object(), b"429"]
)
def test_what_is_no_failing_status_is_passed_over(status: object) -> None:
    """Only whole numbers from 400 to 599 count (also "502"); the next place is looked at."""
    assert kind_of(Odd(status_code=status)) == "unknown"
    assert kind_of(Odd(status_code=status, code=503)) == "unavailable"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("context_length_exceeded", 400, "too_large"),
        ("string_above_max_length", 400, "too_large"),
        ("request_too_large", None, "too_large"),
        ("insufficient_quota", 429, "quota"),
        ("billing_hard_limit_reached", 400, "quota"),
        ("rate_limit_exceeded", 429, "rate_limited"),
        ("invalid_api_key", 401, "auth"),
    ],
)
def test_a_clients_own_code_comes_first(code: str, status: int | None, kind: str) -> None:
    """A 429 may mean an empty account, a 400 a prompt that does not fit."""
    assert kind_of(Odd(code=code, status_code=status)) == kind


def test_a_context_error_is_known_by_its_class() -> None:
    """Some clients raise a plain 400 of a telling class."""
    error = named("ContextWindowExceededError", type("BadRequestError", (Exception,), {}))
    error.status_code = 400  # type: ignore[attr-defined]
    assert kind_of(error) == "too_large"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), "timeout"),
        (subprocess.TimeoutExpired("agent", 3), "timeout"),
        (OSError(errno.ETIMEDOUT, "timed out"), "timeout"),
        (named("ReadTimeout"), "timeout"),
        (named("ConnectTimeout"), "timeout"),
        (named("APITimeoutError", type("APIConnectionError", (Exception,), {})), "timeout"),
        (named("Slow", type("TimeoutException", (Exception,), {})), "timeout"),
        (ConnectionError(), "unavailable"),
        (ConnectionResetError(), "unavailable"),
        (BrokenPipeError(), "unavailable"),
        (OSError(errno.ECONNREFUSED, "refused"), "unavailable"),
        (OSError(errno.ENETUNREACH, "unreachable"), "unavailable"),
        (OSError(errno.EHOSTUNREACH, "unreachable"), "unavailable"),
        (socket.gaierror(-2, "unknown name"), "unavailable"),
        (ssl.SSLError("handshake"), "unavailable"),
        (named("APIConnectionError"), "unavailable"),
        (named("ConnectError"), "unavailable"),
        (named("ReadError", type("NetworkError", (Exception,), {})), "unavailable"),
        (named("RemoteProtocolError"), "unavailable"),
        (FileNotFoundError(2, "no such file"), "unknown"),
        (PermissionError(13, "denied"), "unknown"),
        (OSError("something"), "unknown"),
        (ValueError("bad"), "unknown"),
        (TypeError("bad"), "unknown"),
        (KeyError("bad"), "unknown"),
        (RuntimeError("bad"), "unknown"),
        (MemoryError(), "unknown"),
        (StopIteration(), "unknown"),
        (SystemExit(429), "crashed"),
        (KeyboardInterrupt(), "crashed"),
        (GeneratorExit(), "crashed"),
        (asyncio.CancelledError(), "unavailable"),
        (BaseExceptionGroup("x", [SystemExit(1), Odd(status_code=400)]), "crashed"),
    ],
    ids=repr,
)
def test_errors_without_a_status_are_known_by_their_class(error: BaseException, kind: str) -> None:
    """By the ending of its name or of one above it; what is no Exception is a crash."""
    assert kind_of(error) == kind


def attempt(error: Exception) -> AttemptError:
    return AttemptError("a", 0, FailureKind.UNKNOWN, error)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (
            AllPoolMembersFailedError("p", ["a"], [attempt(Odd(status_code=400))], "", 4.0),
            Verdict(FailureKind.UNAVAILABLE),
        ),
        (PoolSaturatedError("p", 9, 2.5), Verdict(FailureKind.RATE_LIMITED, 2.5)),
        (PoolStoppedError("stopped"), Verdict(FailureKind.UNAVAILABLE, disconnected=True)),
        (DeadlineExceededError("p", 3.0), Verdict(FailureKind.TIMEOUT)),
        (AttemptTimeoutError("slow"), Verdict(FailureKind.TIMEOUT)),
        (MemberCrashedError("gone"), Verdict(FailureKind.CRASHED)),
        (RequestCancelledError("left"), Verdict(FailureKind.UNKNOWN)),
        (StrategyError("bad pick"), Verdict(FailureKind.UNKNOWN)),
        (UnsuccessfulResultError("empty"), Verdict(FailureKind.UNKNOWN)),
        (attempt(Odd(status_code=401)), Verdict(FailureKind.AUTH, opens_at_once=True)),
    ],
    ids=kind_name,
)
def test_b53_an_inner_pools_errors_have_a_kind(error: Exception, verdict: Verdict) -> None:
    """A pool is an agent: what it raises tells the outer pool whether and when to come back."""
    assert classify(error) == verdict
    assert classify(caused(RuntimeError("wrapped"), error)) == verdict


def tried(kind: FailureKind, retry_after_s: float | None = None) -> AttemptError:
    return AttemptError("a", 0, kind, Odd(), retry_after_s=retry_after_s)


def skipped(reason: SkipReason) -> AttemptError:
    return AttemptError("a", 0, reason, attempts=0)


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([], "unavailable"),
        ([tried(FailureKind.UNKNOWN)], "unavailable"),
        ([tried(FailureKind.CRASHED)], "unavailable"),
        ([tried(FailureKind.CREATE_FAILED)], "unavailable"),
        ([tried(FailureKind.TIMEOUT), tried(FailureKind.TIMEOUT)], "timeout"),
        ([tried(FailureKind.TIMEOUT), tried(FailureKind.AUTH)], "unavailable"),
        ([tried(FailureKind.AUTH), tried(FailureKind.AUTH)], "auth"),
        ([tried(FailureKind.QUOTA)], "quota"),
        ([tried(FailureKind.NOT_FOUND), tried(FailureKind.NOT_FOUND)], "not_found"),
        ([tried(FailureKind.NOT_FOUND), skipped(SkipReason.CIRCUIT_OPEN)], "unavailable"),
        ([tried(FailureKind.AUTH), skipped(SkipReason.CIRCUIT_OPEN)], "unavailable"),
        ([tried(FailureKind.TOO_LARGE), skipped(SkipReason.CIRCUIT_OPEN)], "too_large"),
        ([tried(FailureKind.TOO_LARGE), tried(FailureKind.TIMEOUT)], "unavailable"),
        ([tried(FailureKind.RATE_LIMITED), skipped(SkipReason.COOLING_DOWN)], "rate_limited"),
        ([skipped(SkipReason.COOLING_DOWN)], "rate_limited"),
        ([skipped(SkipReason.CIRCUIT_OPEN)], "unavailable"),
    ],
)
def test_b53_what_all_inner_members_failed_by(errors: list[AttemptError], kind: str) -> None:
    """An inner pool has the kind that its members have in common, where that holds for a pool."""
    assert kind_of(AllPoolMembersFailedError("p", ["a"], errors)) == kind


@pytest.mark.parametrize(
    ("errors", "own", "wait"),
    [
        ([skipped(SkipReason.CIRCUIT_OPEN)], 9.0, 9.0),
        ([skipped(SkipReason.CIRCUIT_OPEN), skipped(SkipReason.GAVE_UP)], 9.0, 9.0),
        ([skipped(SkipReason.GAVE_UP)], None, None),
        ([skipped(SkipReason.CIRCUIT_OPEN), skipped(SkipReason.SATURATED)], 9.0, None),
        ([skipped(SkipReason.CIRCUIT_OPEN), tried(FailureKind.UNAVAILABLE)], 9.0, None),
        ([skipped(SkipReason.CIRCUIT_OPEN), tried(FailureKind.UNAVAILABLE, 5.0)], 9.0, 5.0),
        ([tried(FailureKind.RATE_LIMITED, 60.0), tried(FailureKind.RATE_LIMITED, 20.0)], None, 20),
        ([tried(FailureKind.RATE_LIMITED, 60.0), tried(FailureKind.RATE_LIMITED)], None, None),
        ([tried(FailureKind.TIMEOUT)], 9.0, None),
    ],
)
def test_b53_when_an_inner_pool_may_be_asked_again(
    errors: list[AttemptError], own: float | None, wait: float | None
) -> None:
    """When the first of its members is back, unless one might answer any moment."""
    error = AllPoolMembersFailedError("p", ["a"], errors, "", own)
    assert classify(error).retry_after_s == wait


def test_an_inner_pool_is_locked_out_only_if_all_of_its_members_are() -> None:
    """A 403 of one of its members may follow the request, so it is not certain for the pool."""

    def failed(*statuses: int) -> Verdict:
        errors = [
            AttemptError(f"{at}", at, FailureKind.AUTH, Odd(status_code=status))
            for at, status in enumerate(statuses)
        ]
        return classify(AllPoolMembersFailedError("p", ["a"], errors))

    assert failed(401, 401) == Verdict(FailureKind.AUTH, opens_at_once=True)
    assert failed(401, 403) == Verdict(FailureKind.AUTH)


def test_an_inner_pools_word_goes_over_its_members() -> None:
    """One member's Retry-After is not that of the whole inner pool."""
    error = AllPoolMembersFailedError("p", ["a"], [attempt(rate_limited(Retry_After="60"))])
    assert error.__cause__ is not None
    assert classify(error) == Verdict(FailureKind.UNAVAILABLE)


# causes


def test_the_cause_speaks_when_the_error_says_nothing() -> None:
    """Wrapped errors are unwrapped by their explicit cause."""
    limit = Odd(status_code=429, retry_after=3)
    assert classify(caused(RuntimeError("x"), limit)) == Verdict(FailureKind.RATE_LIMITED, 3.0)
    deep = caused(ValueError("x"), caused(RuntimeError("y"), ConnectionError()))
    assert kind_of(deep) == "unavailable"


def test_the_error_itself_comes_before_its_cause() -> None:
    """A TimeoutError from a CancelledError is a timeout; a 400 from a 503 is the caller's."""
    assert kind_of(caused(TimeoutError(), asyncio.CancelledError())) == "timeout"
    assert kind_of(caused(Odd(status_code=400), Odd(status_code=503))) == "caller"


def test_an_implicit_context_is_not_asked() -> None:
    """A bug in the handler of a 404 is the agent's fault, not the caller's."""
    assert kind_of(during(RuntimeError("x"), Odd(status_code=404))) == "unknown"


def test_a_cancelled_cause_is_no_crash() -> None:
    """Only what reaches the pool as a BaseException has crashed the call."""
    assert kind_of(caused(RuntimeError("x"), asyncio.CancelledError())) == "unknown"


def test_a_group_is_judged_by_its_members() -> None:
    """A task group wraps what its tasks raise; the first that says something counts."""
    group = ExceptionGroup("x", [ValueError(), ExceptionGroup("y", [Odd(status_code=503)])])
    assert kind_of(group) == "unavailable"


def test_circles_and_long_chains_end() -> None:
    """A chain of errors is followed twenty links, and no link twice."""
    a, b = RuntimeError("a"), RuntimeError("b")
    a.__cause__, b.__cause__ = b, a
    assert kind_of(a) == "unknown"
    chain: BaseException = Odd(status_code=429)
    for _ in range(10_000):
        chain, inner = RuntimeError("x"), chain
        chain.__cause__ = inner
    assert kind_of(chain) == "unknown"


# Retry-After


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Odd(status_code=429, retry_after=3), 3.0),
        (Odd(status_code=429, retry_after="2.5"), 2.5),
        (Odd(status_code=503, retry_after_s=4.0), 4.0),
        (Odd(status_code=429, headers={"Retry-After": "7"}), 7.0),
        (Odd(status_code=429, headers={"retry-after": 7}), 7.0),
        (Odd(status_code=429, headers={b"RETRY-AFTER": b" 7 "}), 7.0),
        (rate_limited(RETRY_AFTER="0"), 0.0),
        (rate_limited(Retry_After_Ms="1500"), 1.5),
        (rate_limited(Retry_After="2", Retry_After_Ms="1500"), 1.5),
        (rate_limited(X_RateLimit_Reset_After="1.25"), 1.25),
        (rate_limited(Retry_After="soon", X_RateLimit_Reset_After="1.25"), 1.25),
        (Odd(status_code=429, retry_after=None, headers={"Retry-After": "7"}), 7.0),
        (Odd(status_code=429, retry_after=-1, headers={"Retry-After": "7"}), 7.0),
        (Odd(status_code=429, headers=[("Retry-After", "7")]), 7.0),
        (caused(Odd(status_code=429), Odd(headers={"Retry-After": "7"})), 7.0),
        (rate_limited(), None),
    ],
)
def test_retry_after_is_found_wherever_it_is(error: BaseException, seconds: float | None) -> None:
    """As an attribute or a header, in seconds or milliseconds, on the error or its cause."""
    assert wait_of(error) == seconds


@pytest.mark.parametrize(
    "value", ["-1", "nan", "inf", "-inf", "", "soon", "1e999", "7 s", "x" * 1_000_000, "Mon, 99"]
)
def test_a_senseless_retry_after_is_ignored(value: str) -> None:
    """Negative, endless or unreadable: as if the member had said nothing."""
    assert wait_of(rate_limited(Retry_After=value), ERA) is None


@pytest.mark.parametrize(
    "value", [True, float("nan"), float("inf"), -3, [], {}, MagicMock(), None], ids=kind_name
)
def test_a_senseless_attribute_is_ignored(value: object) -> None:
    """What is no number is none, even if it could be made one."""
    assert wait_of(Odd(status_code=429, retry_after=value)) is None


def test_an_absurd_retry_after_is_capped() -> None:
    """Nobody is left alone for more than a day."""
    assert RETRY_AFTER_MAX_S == 86_400.0
    assert wait_of(rate_limited(Retry_After="86401")) == 86_400.0
    assert wait_of(Odd(status_code=429, retry_after=10**12)) == 86_400.0
    assert wait_of(rate_limited(Retry_After="Fri, 14 Nov 2053 22:13:20 GMT"), ERA) == 86_400.0


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Tue, 14 Nov 2023 22:14:05 GMT", 45.0),
        ("Tuesday, 14-Nov-23 22:14:05 GMT", 45.0),
        ("Tue, 14 Nov 2023 23:14:05 +0100", 45.0),
        ("Tue, 14 Nov 2023 22:14:05 -0000", 45.0),
        ("Tue, 14 Nov 2023 22:13:20 GMT", 0.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", None),
    ],
)
def test_retry_after_may_be_a_date(date: str, seconds: float | None) -> None:
    """A date counts from the wall clock's now; one in the past says nothing."""
    assert wait_of(rate_limited(Retry_After=date), ERA) == seconds


def test_without_a_wall_clock_dates_are_ignored() -> None:
    """Taken from 1970, every date would mean a day's rest."""
    assert wait_of(rate_limited(Retry_After="Tue, 14 Nov 2023 22:14:05 GMT")) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_only_what_comes_back_has_a_retry_after(status: int) -> None:
    """A Retry-After means something where time may mend it."""
    assert wait_of(Odd(status_code=status, retry_after=3)) is None


@pytest.mark.parametrize("status", [402, 408, 429, 500, 503, 504, 529])
def test_what_time_mends_has_a_retry_after(status: int) -> None:
    """rate_limited, unavailable, quota, and a gateway's timeout."""
    assert wait_of(Odd(status_code=status, retry_after=3)) == 3.0


# the app's own classifier


def test_an_own_classifier_comes_first() -> None:
    """What it says stands, and a Retry-After is still read."""
    error = Odd(status_code=400, retry_after=3)
    assert classify(error, lambda e: FailureKind.QUOTA) == Verdict(FailureKind.QUOTA, 3.0, True)
    assert classify(error, lambda e: FailureKind.AUTH) == Verdict(FailureKind.AUTH, None, True)
    assert classify(error, lambda e: FailureKind.RATE_LIMITED) == Verdict(
        FailureKind.RATE_LIMITED, 3.0
    )


@pytest.mark.parametrize(
    "answer", [None, "timeout", 429, True, object(), MagicMock(FailureKind)], ids=kind_name
)
def test_an_own_classifier_without_an_answer_is_passed_over(answer: Any) -> None:
    """None, or anything that is no FailureKind, leaves it to the built-in rules."""
    assert classify(Odd(status_code=413), lambda e: answer).kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize("raised", [ValueError("x"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_an_own_classifier_that_raises_is_passed_over(raised: BaseException) -> None:
    """It breaks nothing: the built-in rules apply."""

    def broken(error: BaseException) -> FailureKind | None:
        raise raised

    assert classify(Odd(status_code=413), broken).kind is FailureKind.TOO_LARGE


# whatever an error may be


class Hostile(Exception):
    """Raises, whatever one looks at."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Lying(Exception):
    """Claims to be something else, and raises where its status would be."""

    retry_after = 2

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise ValueError("who am I")

    @property
    def status_code(self) -> int:
        raise KeyboardInterrupt

    @property
    def status(self) -> int:
        raise RuntimeError("not read yet")

    code = 503


class Numeral(int):
    """An int that cannot be compared."""

    def __ge__(self, other: object) -> bool:
        raise ValueError("no")

    __le__ = __gt__ = __lt__ = __eq__ = __ge__
    __hash__ = None  # type: ignore[assignment]


def test_an_attribute_that_raises_counts_as_absent() -> None:
    """Even when it raises what is no Exception: the next place is looked at."""
    assert classify(Hostile()) == Verdict(FailureKind.UNKNOWN)
    assert classify(Lying()) == Verdict(FailureKind.UNAVAILABLE, 2.0)
    assert kind_of(Odd(status_code=Numeral(429))) == "rate_limited"


def test_mocks_say_nothing() -> None:
    """An error full of mocks has no status, no Retry-After and no end of attributes."""
    mock = MagicMock()
    error = Odd(status_code=mock, status=mock, code=mock, response=mock, headers=mock)
    error.__dict__["retry_after"] = mock
    assert classify(error, wall_now=ERA) == Verdict(FailureKind.UNKNOWN)
    error.status_code = 429  # type: ignore[attr-defined]
    assert classify(error, wall_now=ERA) == Verdict(FailureKind.RATE_LIMITED)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        "Retry-After: 5",
        [("Retry-After", "5", "6")],
        {None: None, 5: 5, "x": object()},
        SimpleNamespace(items=lambda: [("Retry-After",)]),
        SimpleNamespace(items=lambda: 5),
        SimpleNamespace(items=lambda: iter(lambda: ("x", "y"), None)),
    ],
    ids=kind_name,
)
def test_odd_headers_say_nothing(headers: object) -> None:
    """No mapping, no pairs, no end: nothing is read and nothing breaks."""
    assert wait_of(Odd(status_code=429, headers=headers)) is None


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(390, 610),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.sampled_from(["429", "Tue, 14 Nov 2023 22:14:05 GMT", "insufficient_quota", "nan"]),
    st.lists(st.integers(), max_size=2),
    st.builds(MagicMock),
    st.builds(object),
)
HEADERS = st.dictionaries(
    st.one_of(ODD_VALUES.filter(lambda v: type(v).__hash__ is not None), st.just("Retry-After")),
    ODD_VALUES,
    max_size=3,
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["status_code", "status", "code", "retry_after", "retry_after_s", "errno"]),
    ODD_VALUES,
)
ERRORS = st.builds(
    lambda own, headers, response: Odd(**own, headers=headers, response=response),
    ATTRIBUTES,
    st.one_of(HEADERS, ODD_VALUES),
    st.one_of(
        ODD_VALUES,
        st.builds(
            lambda own, headers: SimpleNamespace(**own, headers=headers), ATTRIBUTES, HEADERS
        ),
    ),
)
CLASSIFIERS = st.one_of(
    st.none(), st.functions(like=lambda error: ..., returns=ODD_VALUES), st.just(5)
)


@given(
    links=st.lists(ERRORS, min_size=1, max_size=4),
    custom=CLASSIFIERS,
    wall_now=st.floats(0.0, 1e10),
)
def test_it_never_raises(links: list[Odd], custom: Any, wall_now: float) -> None:
    """Whatever an error looks like: a kind, and a wait between nothing and a day, or none."""
    for error, cause in zip(links, [*links[1:], links[0]], strict=True):
        error.__cause__ = cause
    verdict = classify(links[0], custom, wall_now=wall_now)
    assert type(verdict.kind) is FailureKind
    assert verdict.retry_after_s is None or 0.0 <= verdict.retry_after_s <= RETRY_AFTER_MAX_S
    if verdict.kind in (FailureKind.CALLER, FailureKind.UNKNOWN, FailureKind.AUTH):
        assert verdict.retry_after_s is None
    assert not verdict.opens_at_once or verdict.kind.opens_at_once
    assert not verdict.same_member_may_mend or verdict.kind is FailureKind.UNAVAILABLE


CONNECTIONS = [
    ConnectionError,
    ConnectionResetError,
    ConnectionAbortedError,
    ConnectionRefusedError,
    BrokenPipeError,
    TimeoutError,
]


@pytest.mark.parametrize("cls", CONNECTIONS)
def test_a_plain_error_of_a_connection_is_known_at_a_glance(cls: type[OSError]) -> None:
    """By the verdict that a close look comes to."""
    for error in (cls(), cls("no route"), cls(5, "x")):
        found = closely._plain(error)
        assert found is not None
        assert found == closely._verdict(error, closely._links(error), 0.0) == classify(error)


@pytest.mark.parametrize("cls", CONNECTIONS)
def test_what_has_more_to_say_is_looked_at_closely(cls: type[OSError]) -> None:
    """An attribute, a cause, an error among the arguments, a class of a client's own."""

    class Own(cls):  # type: ignore[misc, valid-type]
        pass

    said, caused = cls("x"), cls("x")
    said.status_code = 429  # type: ignore[attr-defined]
    caused.__cause__ = Odd(status_code=429)
    for error in (said, caused, cls(Odd(status_code=429)), Own("x")):
        assert closely._plain(error) is None
        assert classify(error) == closely._verdict(error, closely._links(error), 0.0)

"""Errors and values that do whatever they like when looked at: they are judged all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any

from helpers_client_errors import ERA
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors.reading.classify import RETRY_AFTER_MAX_S, Verdict, classify, classify_value
from greenroom.messages.status import FailureKind

ARMED: list[bool] = []
"""Not empty while a classifier looks; a test runner has a look at classes, too."""


class Raising:
    """Raises, whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or not ARMED:
            return object.__getattribute__(self, name)
        raise SystemExit(name)

    def _raise(self, *_: object) -> Any:
        raise RuntimeError

    __eq__ = __iter__ = __len__ = __getitem__ = __bool__ = __call__ = _raise
    __hash__ = _raise


class Endless(Mapping[Any, Any]):
    """A mapping without an end, which holds itself."""

    def __getitem__(self, key: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield "error"

    def __len__(self) -> int:
        return 2**62


class Loud(str):
    """A str whose every method raises."""

    __slots__ = ()

    def _raise(self, *_: object) -> Any:
        raise ValueError

    __len__ = __getitem__ = strip = lower = partition = startswith = _raise
    __hash__ = str.__hash__


class Odd(dict[Any, Any]):
    """A dict that raises when it is looked through."""

    def items(self) -> Any:
        raise RecursionError

    get = __getitem__ = items  # type: ignore[assignment]


class Code(Enum):
    """Values of enums may be anything."""

    UNAVAILABLE = object()
    RESOURCE_EXHAUSTED = (8, "x")
    NUMBER = 503


class Meta(type):
    """A class that lies about itself."""

    def __getattribute__(cls, name: str) -> Any:
        if ARMED and name in ("__mro__", "__name__", "__module__"):
            raise ValueError(name)
        return super().__getattribute__(name)


class Lying(Exception, metaclass=Meta):
    """Not even its class may be looked at."""


NAMES = [
    "status_code", "status", "code", "response", "raw_response", "headers", "response_headers",
    "litellm_response_headers", "retry_after", "retry_after_s", "retry_after_ms", "body", "error",
    "errors", "details", "detail", "data", "message", "msg", "type", "reason", "title", "done",
    "trailing_metadata", "grpc_status_code", "api_error_status", "exceptions", "inner_exception",
    "original_exception", "rcvd", "returncode", "exit_code", "errno", "kind", "error_code",
]  # fmt: skip
WORDS = st.sampled_from([
    "429", "503", "insufficient_quota", "overloaded_error", "prompt is too long", "30s", "1m30s",
    "RESOURCE_EXHAUSTED", "Retry-After", "Tue, 14 Nov 2023 22:14:05 GMT", "content_filter", "PT5S",
    "{", "[[[[", '{"error": {"code": 429}}', "HTTP 503", "please try again in 5s", "99999999999999",
    "2023-11-14T22:14:05Z", "0" * 200, "²²²", "١٢٣",
])  # fmt: skip
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(390, 610),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    WORDS,
    WORDS.map(lambda word: word.encode()),
    WORDS.map(Loud),
    st.builds(Raising),
    st.builds(Endless),
    st.builds(Odd),
    st.sampled_from(Code),
    st.timedeltas(),
    st.datetimes(),
    st.just(timedelta.max),
    st.none().map(lambda _: Lying),
    st.just(lambda *_: [Raising()]),
    st.builds(Lying),
    st.builds(SystemExit, st.integers()),
)
KEYS = st.one_of(
    st.sampled_from([*NAMES, "Retry-After", "retryDelay", "x-ratelimit-reset-tokens", "headers",
                     "anthropic-ratelimit-requests-reset", "grpc-status-details-bin", "metadata"]),
    st.integers(), st.binary(max_size=5), WORDS.map(Loud),
)  # fmt: skip
TREES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3).map(lambda own: holder(own)),
        st.lists(st.tuples(KEYS, inner), max_size=3).map(tuple),
    ),
    max_leaves=12,
)
CLASSES = st.sampled_from([
    "Error", "RpcError", "ConnectionClosed", "ClientError", "MCPError", "APIConnectionError",
    "MidStreamFallbackError", "ProcessError", "TransferEncodingError",
])  # fmt: skip


class LazyAgent:
    """An object with whatever attributes."""


def holder(own: dict[str, Any]) -> LazyAgent:
    made = LazyAgent()
    made.__dict__.update(own)
    return made


@st.composite
def errors(draw: st.DrawFn) -> BaseException:
    above = draw(st.sampled_from([Exception, OSError, ValueError, TimeoutError]))
    arguments = draw(st.lists(TREES, max_size=2))
    made: Any = type(draw(CLASSES), (above,), {})(*arguments)
    made.__dict__.update(draw(st.dictionaries(st.sampled_from(NAMES), TREES, max_size=6)))
    return made  # type: ignore[no-any-return]


@contextmanager
def armed() -> Iterator[None]:
    ARMED.append(True)
    try:
        yield
    finally:
        ARMED.clear()


def assert_sane(verdict: Verdict) -> None:
    assert type(verdict.kind) is FailureKind
    wait = verdict.retry_after_s
    assert wait is None or 0.0 <= wait <= RETRY_AFTER_MAX_S
    assert not verdict.opens_at_once or verdict.kind.opens_at_once
    assert not verdict.same_member_may_mend or verdict.kind is FailureKind.UNAVAILABLE


@settings(max_examples=50, deadline=None)
@given(links=st.lists(errors(), min_size=1, max_size=3), wall_now=st.floats(0.0, 1e10))
def test_any_error_has_a_verdict(links: list[BaseException], wall_now: float) -> None:
    """It never raises and never ends up without a kind, whatever raises, lies or goes on."""
    for error, cause in zip(links, [*links[1:], links[0]], strict=True):
        error.__cause__ = cause
        error.__context__ = links[-1]
    group = BaseExceptionGroup("x", [*links, Lying()])
    with armed():
        alone, together = (classify(each, wall_now=wall_now) for each in (links[0], group))
    assert_sane(alone)
    assert_sane(together)


@settings(max_examples=50, deadline=None)
@given(value=TREES)
def test_any_value_has_a_verdict(value: Any) -> None:
    """So has any value that was refused."""
    with armed():
        verdict = classify_value(value, wall_now=ERA)
    assert_sane(verdict)


def test_a_class_that_lies_is_unknown() -> None:
    """Not even the name of a class is to be had from it."""
    error = Lying()
    with armed():
        verdict = classify(error)
    assert verdict == Verdict(FailureKind.UNKNOWN)


def test_a_retry_after_is_read_in_spite_of_what_stands_beside_it() -> None:
    """What raises counts as absent, and what is next to it is found."""
    error: Any = Exception("x")
    error.status_code = 429
    error.body = Odd()
    error.retry_after = Raising()
    error.response = holder({"headers": {Raising: 1, "Retry-After": "7"}})
    assert classify(error) == Verdict(FailureKind.RATE_LIMITED, 7.0)

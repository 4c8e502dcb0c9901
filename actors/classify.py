"""What kind of failure an exception is, by what it looks like: clients are never imported.

An error is judged by its own look, then by that of what caused it. Errors come from user code and
may do anything when looked at, so every look at them is guarded.
"""

from __future__ import annotations

import errno
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, cast

from greenroom.actors.poolkinds import kind_of_pool, wait_of_pool
from greenroom.messages.config import Classifier
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    DeadlineExceededError,
    MemberCrashedError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    StrategyError,
    UnsuccessfulResultError,
)
from greenroom.messages.status import FailureKind

RETRY_AFTER_MAX_S = 24 * 3600.0
"""The longest Retry-After that is believed."""

_CHAIN_LIMIT = 20
_HEADERS_LIMIT = 200
_VALUE_LIMIT = 100

_POOL_ERRORS: dict[type[BaseException], FailureKind] = {
    AllPoolMembersFailedError: FailureKind.UNAVAILABLE,  # unless its members have a kind in common
    # It works, and says when it has room: a reason to cool down, not to open the breaker.
    PoolSaturatedError: FailureKind.RATE_LIMITED,
    PoolStoppedError: FailureKind.UNAVAILABLE,
    DeadlineExceededError: FailureKind.TIMEOUT,
    AttemptTimeoutError: FailureKind.TIMEOUT,
    MemberCrashedError: FailureKind.CRASHED,
    # Known not to be known: what caused them says nothing of the member.
    RequestCancelledError: FailureKind.UNKNOWN,
    StrategyError: FailureKind.UNKNOWN,
    UnsuccessfulResultError: FailureKind.UNKNOWN,
}

_SAY_IT_ALL = tuple(_POOL_ERRORS)

# Ahead of the status: a 429 may mean an empty account, a 400 a prompt that does not fit.
_CODES = {
    "insufficient_quota": FailureKind.QUOTA,
    "billing_hard_limit_reached": FailureKind.QUOTA,
    "context_length_exceeded": FailureKind.TOO_LARGE,
    "string_above_max_length": FailureKind.TOO_LARGE,
    "request_too_large": FailureKind.TOO_LARGE,
    "rate_limit_exceeded": FailureKind.RATE_LIMITED,
}

_STATUSES = {
    401: FailureKind.AUTH,
    402: FailureKind.QUOTA,
    403: FailureKind.AUTH,
    408: FailureKind.TIMEOUT,
    409: FailureKind.UNAVAILABLE,
    413: FailureKind.TOO_LARGE,
    425: FailureKind.UNAVAILABLE,
    429: FailureKind.RATE_LIMITED,
    504: FailureKind.TIMEOUT,
}

# They come as a plain 400, and only their names tell.
_CONTEXT_ERRORS = frozenset({"ContextWindowExceededError", "ContextLengthExceededError"})

# Endings of class names: they cover the builtin classes and those of the clients in use.
_TIMEOUTS = ("Timeout", "TimeoutError", "TimeoutException", "TimeoutExpired")
_OUTAGES = (
    "ConnectionError",
    "ConnectError",
    "NetworkError",
    "RemoteProtocolError",
    "SSLError",
    "gaierror",
)
_ERRNOS = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})

_SECONDS_IN = {"retry-after-ms": 0.001, "retry-after": 1.0, "x-ratelimit-reset-after": 1.0}
"""The headers that say when to come back, the most exact first, and their unit."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What kind of failure it is, and how many seconds the member asked to be left alone."""

    kind: FailureKind
    retry_after_s: float | None = None


def classify(
    error: BaseException,
    custom: Classifier | None = None,
    *,
    wall_now: float = 0.0,
    known: FailureKind | None = None,
) -> Verdict:
    """Say what kind of failure an error is. Never raises.

    Args:
        error: what the agent raised.
        custom: asked first; when it raises, or answers None or anything that is not a
            `FailureKind`, the built-in rules apply.
        wall_now: seconds since the epoch, for a Retry-After that is a date; 0 ignores dates.
        known: what stands in for the built-in rules, where somebody has judged the error already.
    """
    kind = _asked(custom, error) or known
    try:
        links = _links(error)
        kind = kind or _judged(error, links)
        return Verdict(kind, _retry_after(kind, links, wall_now))
    except BaseException:  # the last resort: one odd error must not end the actor that looks at it
        return Verdict(kind or FailureKind.UNKNOWN)


def classify_value(value: Any, *, wall_now: float) -> Verdict:
    """Stands in until the judgement of values is here."""
    for name in ("status_code", "status", "api_error_status"):
        found = value.get(name) if isinstance(value, dict) else _look(value, name)
        kind = _of_status(found)
        if kind is not None:
            return Verdict(kind)
    return Verdict(FailureKind.UNKNOWN)


def _asked(custom: Classifier | None, error: BaseException) -> FailureKind | None:
    """The custom classifier's answer, if it is one."""
    if custom is None:
        return None
    try:
        answer: object = custom(error)
    except BaseException:  # even a SystemExit from it must not end the actor that asks
        return None
    return answer if type(answer) is FailureKind else None


def _judged(error: BaseException, links: tuple[BaseException, ...]) -> FailureKind:
    """The verdict of the first link that has one."""
    # Before any look at attributes: the `code` of a SystemExit is no status.
    if not _is_a(error, Exception):
        return FailureKind.CRASHED
    for link in links:
        kind = _kind_of(link)
        if kind is not None:
            return kind
    return FailureKind.UNKNOWN


def _links(error: BaseException) -> tuple[BaseException, ...]:
    """The first ones of its chain; most errors stand alone, and that is seen at a glance."""
    if _cause(error) is None and _look(error, "exceptions") is None:
        return (error,)
    return tuple(islice(_chain(error), _CHAIN_LIMIT))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, the errors that it groups, then what caused it, each once."""
    seen: set[int] = set()
    waiting = deque([error])
    while waiting:
        link = waiting.popleft()
        if id(link) in seen or not _is_a(link, BaseException):
            continue
        seen.add(id(link))
        yield link
        if _is_a(link, _SAY_IT_ALL):
            continue  # says it all: what one member of an inner pool raised is not the pool's word
        grouped = _look(link, "exceptions")
        if type(grouped) is tuple:  # an exception group
            waiting.extend(grouped)
        waiting.append(_cause(link))


def _cause(error: BaseException) -> Any:
    """What it was raised from. An implicit `__context__` is not asked: a bug in the handler of a
    404 is not the caller's fault.
    """
    return _look(error, "__cause__")


def _kind_of(error: BaseException) -> FailureKind | None:
    """What one error says by itself, without its causes."""
    if _is_a(error, _SAY_IT_ALL):
        return _of_pool_error(error)
    names = [cls.__name__ for cls in type(error).__mro__]
    if not _CONTEXT_ERRORS.isdisjoint(names):
        return FailureKind.TOO_LARGE
    code = _look(error, "code")
    return _by_code(code) or _by_status(error, code) or _by_name(names) or _by_errno(error)


def _of_pool_error(error: BaseException) -> FailureKind:
    if _is_a(error, AllPoolMembersFailedError):
        return kind_of_pool(cast(AllPoolMembersFailedError, error))
    if _is_a(error, UnsuccessfulResultError):
        kind: object = _look(error, "kind")
        return kind if type(kind) is FailureKind else FailureKind.UNKNOWN
    return next(kind for known, kind in _POOL_ERRORS.items() if _is_a(error, known))


def _by_code(code: Any) -> FailureKind | None:
    """What a client's own code of the error says, where it is a string."""
    return _CODES.get(str.__str__(code)) if _is_a(code, str) else None


def _by_status(error: BaseException, code: Any) -> FailureKind | None:
    """What the first HTTP status says that the error or its response has."""
    kind = _of_status(_look(error, "status_code")) or _of_status(_look(error, "status"))
    kind = kind or _of_status(code)
    response = None if kind else _look(error, "response")
    if response is None:
        return kind
    return _of_status(_look(response, "status_code")) or _of_status(_look(response, "status"))


def _of_status(status: Any) -> FailureKind | None:
    """What an HTTP status means; None for what is none, or no failure."""
    if status is None or not _is_a(status, int):
        return None
    number = int.__int__(status)
    if not 400 <= number <= 599:
        return None
    return _STATUSES.get(number, FailureKind.CALLER if number < 500 else FailureKind.UNAVAILABLE)


def _by_name(names: list[str]) -> FailureKind | None:
    """What the names of an error's class and of the classes above say, the nearest first."""
    for name in names:
        if name.endswith(_TIMEOUTS):
            return FailureKind.TIMEOUT
        if name.endswith(_OUTAGES):
            return FailureKind.UNAVAILABLE
    return None


def _by_errno(error: BaseException) -> FailureKind | None:
    """Whether an OSError is one of the network; a missing file is not."""
    number = _look(error, "errno")
    network = _is_a(error, OSError) and type(number) is int and number in _ERRNOS
    return FailureKind.UNAVAILABLE if network else None


def _retry_after(
    kind: FailureKind, links: tuple[BaseException, ...], wall_now: float
) -> float | None:
    """The first Retry-After of the chain that makes sense, in seconds."""
    if kind not in (FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE):
        return None
    for link in links:
        for value, unit in _retry_values(link):
            wait = _seconds(value, unit, wall_now)
            if wait is not None:
                return wait
    return None


def _retry_values(error: BaseException) -> Iterator[tuple[Any, float]]:
    """Whatever an error has to say on when to come back, with the unit in seconds."""
    if _is_a(error, AllPoolMembersFailedError):
        yield wait_of_pool(cast(AllPoolMembersFailedError, error)), 1.0
        return
    for name in ("retry_after", "retry_after_s"):
        yield _look(error, name), 1.0
    for owner in (_look(error, "response"), error):
        headers = None if owner is None else _look(owner, "headers")
        if headers is not None:
            for name, value in _headers(headers).items():
                yield value, _SECONDS_IN[name]


def _headers(headers: Any) -> dict[str, Any]:
    """Those headers that say when to come back, from any mapping of them, the most exact first."""
    found: dict[str, Any] = {}
    try:
        for name, value in islice(headers.items(), _HEADERS_LIMIT):
            key = _text(name).lower()
            if key in _SECONDS_IN:
                found.setdefault(key, value)
    except BaseException:  # not a mapping, or one that raises: what was found until then
        pass
    return {name: found[name] for name in _SECONDS_IN if name in found}


def _seconds(value: Any, unit: float, wall_now: float) -> float | None:
    """A number of units, or an HTTP date, in seconds from now; None for what makes no sense."""
    if value is None:
        return None
    try:
        seconds = _parsed(value, unit, wall_now)
    except BaseException:
        return None
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, RETRY_AFTER_MAX_S)


def _parsed(value: Any, unit: float, wall_now: float) -> float:
    """What a Retry-After says (RFC 9110, 10.2.3), in seconds; raises when it says nothing."""
    if _is_a(value, (int, float)) and type(value) is not bool:
        return float(value) * unit
    text = _text(value)
    try:
        return float(text) * unit
    except ValueError:
        if not wall_now:
            raise
    date = parsedate_to_datetime(text)
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall_now


def _text(value: Any) -> str:
    """A short string, also from bytes; an empty one for anything else."""
    if type(value) is bytes:
        value = value[: _VALUE_LIMIT + 1].decode("latin-1")
    return value.strip() if type(value) is str and len(value) <= _VALUE_LIMIT else ""


def _is_a(value: object, cls: type | tuple[type, ...]) -> bool:
    """`isinstance` by the real type: a `__class__` that lies or raises is not asked."""
    return issubclass(type(value), cls)


def _look(owner: Any, name: str) -> Any:
    """An attribute; None when there is none, or when looking at it raises whatever it may."""
    try:
        return getattr(owner, name, None)
    except BaseException:
        return None

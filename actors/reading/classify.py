"""What kind of failure an exception is, by what it looks like: clients are never imported.

An error is judged by its own look, then by that of what caused it: the class name of an outer error
goes before a number that something further in has. What is looked at, and how carefully, is in
`error_access`; the words are in `error_words`, where a status sits in `error_status`, a Retry-After
in `retry_after`. Pure.
"""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

from greenroom.actors.reading import error_words as words
from greenroom.actors.reading.error_access import is_a, look, names_of, text_of
from greenroom.actors.reading.error_status import (
    TALKS,
    by_codes,
    by_sentence,
    number_of,
    refined,
    said_by,
    status_of,
)
from greenroom.actors.reading.inner_pool_kinds import kind_of_pool, wait_of_pool
from greenroom.actors.reading.retry_after import RETRY_AFTER_MAX_S, retry_after
from greenroom.messages.config import Classifier
from greenroom.messages.errors import (
    AgentLostError,
    AgentTypeError,
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    DeadlineExceededError,
    MemberCrashedError,
    PayloadError,
    PoolSaturatedError,
    PoolStoppedError,
    ReentrantAskError,
    RemoteError,
    RequestCancelledError,
    ResourceError,
    StrategyError,
    UnsuccessfulResultError,
)
from greenroom.messages.member import Lost
from greenroom.messages.status import FailureKind

__all__ = ["RETRY_AFTER_MAX_S", "Verdict", "answer_of", "classify", "classify_value", "is_lost"]

T = TypeVar("T")

_CHAIN_LIMIT = 20
_GROUP_LIMIT = 100

_POOL_ERRORS: dict[type[BaseException], FailureKind] = {
    AllPoolMembersFailedError: FailureKind.UNAVAILABLE,  # unless its members have a kind in common
    # It works, and says when it has room: a reason to cool down, not to open the breaker.
    PoolSaturatedError: FailureKind.RATE_LIMITED,
    PoolStoppedError: FailureKind.UNAVAILABLE,
    # The agent's own doing: the same agent would do it on any other member.
    ReentrantAskError: FailureKind.CALLER,
    PayloadError: FailureKind.CALLER,
    # What its member cannot do, whatever the request, and another one may.
    AgentTypeError: FailureKind.TOO_LARGE,
    DeadlineExceededError: FailureKind.TIMEOUT,
    AttemptTimeoutError: FailureKind.TIMEOUT,
    MemberCrashedError: FailureKind.CRASHED,
    AgentLostError: FailureKind.CRASHED,
    ResourceError: FailureKind.INTERRUPTED,  # the machine's fault, when the agent had begun
    # Known not to be known: what caused them says nothing of the member.
    RequestCancelledError: FailureKind.UNKNOWN,
    StrategyError: FailureKind.UNKNOWN,
    UnsuccessfulResultError: FailureKind.UNKNOWN,
    RemoteError: FailureKind.UNKNOWN,  # it has a kind of its own
}

_SAY_IT_ALL = tuple(_POOL_ERRORS)

_WAITS = frozenset(
    {FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE, FailureKind.QUOTA, FailureKind.TIMEOUT}
)
"""After these a Retry-After means something: 429, 503 and 529, 402, 504."""
_NO_WAIT = frozenset({words.CUT, words.REFUSED, words.TIMED_OUT})
"""After these it means nothing, whatever their kind: there was no answer that could have one."""

# They have a status of their own, whatever has cut the stream: what is further in goes first.
_WRAPPERS = frozenset({"MidStreamFallbackError"})

_REASONS = ("reason", "inner_exception", "original_exception")
"""Where urllib, azure and litellm keep what happened."""

_MENDED_ELSEWHERE = (
    FailureKind.QUOTA, FailureKind.AUTH, FailureKind.RATE_LIMITED, FailureKind.NOT_FOUND,
    FailureKind.TOO_LARGE, FailureKind.TIMEOUT, FailureKind.UNAVAILABLE,
)  # fmt: skip
"""Of what a group holds the first of these counts: another member of the pool could mend it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a failure by the look of it.

    Attributes:
        kind: what it means for the request and the member.
        retry_after_s: how many seconds the member asked to be left alone; None if it did not.
        opens_at_once: it is certain to be the member's, whatever the request (a 401, an empty
            account): one is enough to open its breaker. Not so a 403.
        same_member_may_mend: the same member may do better at once (a connection that broke off;
            500, 502 or 503 without a Retry-After).
        disconnected: nobody has answered: the connection was refused, broken off or closed.
    """

    kind: FailureKind
    retry_after_s: float | None = None
    opens_at_once: bool = False
    same_member_may_mend: bool = False
    disconnected: bool = False


def _at_a_glance() -> dict[type, Verdict]:
    """What those of Python's own errors mean that stand for a connection, by their class alone."""
    found = {}
    for cls in vars(builtins).values():
        if isinstance(cls, type) and issubclass(cls, Exception):
            status = words.by_name([each.__name__ for each in cls.__mro__])
            if status in _NO_WAIT:
                found[cls] = _of_status(status, (), 0.0)
    return found


def _plain(error: BaseException) -> Verdict | None:
    """The verdict of one of those where nothing else is to be looked at: most failures of a
    connection come like that, and a request that fails over waits for this.
    """
    verdict = _AT_A_GLANCE.get(type(error))
    # The class is Python's own, so these looks run no code of anybody's.
    if verdict is None or error.__dict__ or error.__cause__ is not None:
        return None
    for each in error.args:
        if issubclass(type(each), BaseException):
            return None
    return verdict


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
    kind = known if custom is None else answer_of(custom, error) or known
    try:
        if kind is None and (plain := _plain(error)) is not None:
            return plain
        links = _links(error)
        if kind is None:
            return _verdict(error, links, wall_now)
        # What somebody calls it does not change whether anybody has answered.
        cut = kind.counts_for_breaker and _verdict(error, links, wall_now).disconnected
        return Verdict(kind, _wait(kind, links, wall_now), kind.opens_at_once, disconnected=cut)
    except BaseException:  # the last resort: one odd error must not end the actor that looks at it
        kind = kind or FailureKind.UNKNOWN
        return Verdict(kind, None, kind.opens_at_once)


def classify_value(value: Any, *, wall_now: float = 0.0) -> Verdict:
    """Say what kind of failure an answer is that was refused, by the rules for errors.

    Never raises. A status, a code, an error type, a body and headers are read where an error has
    them: from the attributes of an object, or from the entries of a dict.

    Args:
        value: what the agent returned.
        wall_now: as in `classify`.

    Returns:
        `unknown` where the value says nothing of the kind.
    """
    try:
        said = said_by(value)
        number = None if is_a(value, (str, bytes)) else number_of(value)
        if number is None:
            status = by_codes(value, said)
        else:
            status = refined(number, value, said) if number in TALKS else number
        return _of_status(status or words.UNKNOWN, (value,), wall_now)
    except BaseException:
        return Verdict(FailureKind.UNKNOWN)


def answer_of(custom: Classifier | None, error: BaseException) -> FailureKind | None:
    """A custom classifier's answer, if it is one. Never raises."""
    if custom is None:
        return None
    try:
        answer: object = custom(error)
    except BaseException:  # even a SystemExit from it must not end the actor that asks
        return None
    return answer if type(answer) is FailureKind else None


def _verdict(error: BaseException, links: tuple[BaseException, ...], wall_now: float) -> Verdict:
    """The verdict of the first link that has one."""
    # Before any look at attributes: the `code` of a SystemExit is no status.
    if not is_a(error, Exception):
        # A CancelledError that nobody asked for is of a client that was closed under a call.
        cancelled = type(error).__name__ == "CancelledError"
        kind = FailureKind.UNAVAILABLE if cancelled else FailureKind.CRASHED
        return Verdict(kind, disconnected=cancelled)
    if look(error, "exceptions") is not None:
        return _of_group(error, links, wall_now)
    return _of_links(links, wall_now) or Verdict(
        FailureKind.UNKNOWN,
        _wait(FailureKind.UNKNOWN, links, wall_now),
        disconnected=any(map(_says_gone, links)),
    )


def _says_gone(link: BaseException) -> bool:
    """Whether what has no status tells of an end: of a pipe, a process, or a client's own loop."""
    if not words.GONE.isdisjoint(names_of(link)):
        return True
    arguments = look(link, "args")
    said = text_of(arguments[0]) if type(arguments) is tuple and arguments else ""
    return is_a(link, RuntimeError) and words.LOOP_CLOSED in said.lower()


def _of_links(links: tuple[BaseException, ...], wall_now: float) -> Verdict | None:
    if type(links[0]).__name__ in _WRAPPERS and len(links) > 1:
        # Last, not out: where nothing further in says anything, the wrapper's own status does.
        links = (*links[1:], links[0])
    for at, link in enumerate(links):
        if is_a(link, _SAY_IT_ALL):
            return _of_pool_error(link, wall_now)
        grouped = type(look(link, "exceptions")) is tuple
        status = _of_members(link) if grouped else status_of(link, names_of(link))
        if status is not None:
            if at + 1 < len(links):
                status = _seen_closer(status, links[at + 1 :])
            return _of_status(status, links, wall_now)
    # Only when no link has a status: a sentence is the weakest sign, and may quote anything.
    for asked in (by_sentence, lambda link: words.by_base(names_of(link))):
        for link in links:
            status = asked(link)
            if status is not None:
                return _of_status(status, links, wall_now)
    return None


def _of_members(group: BaseException) -> int | None:
    """What counts of a group further in: of its members by themselves, without their causes."""
    found = [status_of(each, names_of(each)) for each in _members(group)]
    statuses = [status for status in found if status is not None]
    return _mended_elsewhere(statuses, words.kind_of_status)


def _mended_elsewhere(found: list[T], kind_of: Callable[[T], FailureKind]) -> T | None:
    """The first of those that another member of the pool could mend, the surest kind before all."""
    sorted_out = (each for kind in _MENDED_ELSEWHERE for each in found if kind_of(each) is kind)
    return next(sorted_out, None)


def _seen_closer(status: int, inner: tuple[BaseException, ...]) -> int:
    """What the causes make of a status: the body may be on one, or it was a timeout after all."""
    if status in TALKS:
        for link in inner:
            if number_of(link) == status:
                return refined(status, link)
    elif status in (words.CUT, words.REFUSED):
        for link in inner:
            closer = words.by_name(names_of(link))
            if closer in (words.TIMED_OUT, words.REFUSED):
                return closer
    return status


def _of_status(status: int, links: tuple[Any, ...], wall_now: float) -> Verdict:
    kind = words.kind_of_status(status)
    wait = _wait(kind, links, wall_now, status)
    return Verdict(
        kind,
        wait,
        opens_at_once=status in words.CERTAIN,
        same_member_may_mend=wait is None and status in words.MENDS_AT_ONCE,
        disconnected=status in words.DISCONNECTED,
    )


def _of_group(group: BaseException, links: tuple[BaseException, ...], wall_now: float) -> Verdict:
    """Of all that a group holds what another member of the pool could mend, else the first."""
    verdicts = (_of_links(_links(each), wall_now) for each in _members(group))
    found = [verdict for verdict in verdicts if verdict is not None]
    mended = _mended_elsewhere(found, lambda verdict: verdict.kind)
    if mended is not None:
        return mended
    outer = _of_links(tuple(each for each in links if each is not group), wall_now)
    known = next((verdict for verdict in found if verdict.kind is not FailureKind.UNKNOWN), outer)
    return known or Verdict(FailureKind.UNKNOWN)


def _members(group: BaseException) -> Iterator[BaseException]:
    """What is in a group and in the groups in it, each once."""
    seen: set[int] = set()
    waiting = deque([group])
    while waiting and len(seen) < _GROUP_LIMIT:
        each = waiting.popleft()
        if id(each) in seen or not is_a(each, BaseException):
            continue
        seen.add(id(each))
        # An inner pool's error is one, whatever it is made of: see `_chain`.
        grouped = None if is_a(each, _SAY_IT_ALL) else look(each, "exceptions")
        if type(grouped) is tuple:
            waiting.extend(islice(grouped, _GROUP_LIMIT))
        elif is_a(each, Exception):
            yield each


def is_lost(error: BaseException, lost: Lost | None) -> bool:
    """Whether an error says that its agent is gone for good. Never raises.

    Args:
        lost: the member's. A function has the last word; of classes and `AgentLostError` one is
            enough that is anywhere in what has caused the error.
    """
    try:
        if lost is None and type(error) in _AT_A_GLANCE and not error.__dict__:
            # Most failures of a connection: see `_plain`.
            if error.__cause__ is None:
                return False
        elif lost is not None and type(lost) is not tuple and not isinstance(lost, type):
            return bool(lost(error))  # type: ignore[operator]
        kinds = (AgentLostError, *(lost if isinstance(lost, tuple) else (lost,) if lost else ()))
        return any(is_a(link, kinds) or _is_said_lost(link) for link in _links(error))
    except BaseException:  # even of a function of the app's: as in `answer_of`
        return False


def _is_said_lost(link: BaseException) -> bool:
    """Whether it is what a block says by `Attempt.fail(lost=True)`."""
    return is_a(link, UnsuccessfulResultError) and look(link, "lost") is True


def _links(error: BaseException) -> tuple[BaseException, ...]:
    """The first ones of its chain; most errors stand alone, and that is seen at a glance."""
    if not _causes(error):
        return (error,)
    return tuple(islice(_chain(error), _CHAIN_LIMIT))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what caused it, each once; an inner group in the order of its members."""
    seen: set[int] = set()
    waiting = deque([error])
    while waiting:
        link = waiting.popleft()
        if id(link) in seen or not is_a(link, BaseException):
            continue
        seen.add(id(link))
        yield link
        if is_a(link, _SAY_IT_ALL):
            continue  # says it all: what one member of an inner pool raised is not the pool's word
        waiting.extend(_causes(link))


def _causes(error: BaseException) -> list[BaseException]:
    """What it groups, was raised from, or holds as its reason.

    An implicit `__context__` is not asked: a bug in the handler of a 404 is not the caller's fault.
    """
    grouped = look(error, "exceptions")
    found: list[Any] = list(grouped[:_GROUP_LIMIT]) if type(grouped) is tuple else []
    found.append(look(error, "__cause__"))
    own = look(error, "__dict__")  # not by way of attributes: some of them warn when looked at
    if type(own) is dict and own:
        found += [own.get(name) for name in _REASONS]
    arguments = look(error, "args")
    if type(arguments) is tuple:  # urllib3 and requests hand on what happened as an argument
        found += arguments[:3]
    return [each for each in found if issubclass(type(each), BaseException)]


def _of_pool_error(error: BaseException, wall_now: float) -> Verdict:
    """What an inner pool's own error says."""
    if is_a(error, AllPoolMembersFailedError):
        failed = cast(AllPoolMembersFailedError, error)
        kind = kind_of_pool(failed)
        return Verdict(kind, _believed(kind, wait_of_pool(failed)), _certain(failed, kind))
    kind = next(kind for known, kind in _POOL_ERRORS.items() if is_a(error, known))
    own = look(error, "kind")  # that of a refused value
    kind = own if type(own) is FailureKind else kind
    certain = look(error, "opens_at_once")
    certain = certain if type(certain) is bool else kind.opens_at_once
    gone = is_a(error, PoolStoppedError)
    return Verdict(kind, _wait(kind, (error,), wall_now), certain, disconnected=gone)


def _certain(error: AllPoolMembersFailedError, kind: FailureKind) -> bool:
    """Whether an inner pool can answer nobody: not if a member of it may mind the request alone."""
    if not kind.opens_at_once:
        return False
    causes = [each.error for each in error.errors if each.error is not None]
    verdicts = [_verdict(each, _links(each), 0.0) for each in causes[:_CHAIN_LIMIT]]
    return not any(v.kind is FailureKind.AUTH and not v.opens_at_once for v in verdicts)


def _believed(kind: FailureKind, wait: float | None) -> float | None:
    if wait is None or kind not in _WAITS:
        return None
    return min(wait, RETRY_AFTER_MAX_S)


def _wait(
    kind: FailureKind, links: tuple[Any, ...], wall_now: float, status: int | None = None
) -> float | None:
    """The first Retry-After of the chain that makes sense, in seconds."""
    if kind not in _WAITS or status in _NO_WAIT:
        return None
    first = links[0]
    if is_a(first, AllPoolMembersFailedError):
        return _believed(kind, wait_of_pool(cast(AllPoolMembersFailedError, first)))
    throttled = kind is FailureKind.RATE_LIMITED
    return retry_after(_with_context(links), wall_now, throttled=throttled)


def _with_context(links: tuple[Any, ...]) -> tuple[Any, ...]:
    """The chain and, for its headers, the response's error that a client hides with `from None`.

    It is the same failure, told twice, when it has the same status; anything else is not asked.
    """
    first = links[0]
    hidden = look(first, "__context__")
    if hidden is None or any(hidden is link for link in links):
        return links
    status = number_of(first)
    if status is None or number_of(hidden) != status:
        return links
    return (*links, hidden)


_AT_A_GLANCE = _at_a_glance()

"""The error tree: whatever the pool itself raises is a `PoolError`.

A request that failed says of every member what became of it, in `errors`; where a member is a pool,
the error there has `errors` of its own. It is no `ExceptionGroup`: a group holds what was raised,
and a member that was skipped raised nothing; `except*` would take it apart, where an app wants to
know of the request; and a deadline must stay a `TimeoutError`, which no group can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, Self, cast

from greenroom.messages.pickling import fit_to_leave
from greenroom.messages.pickling import summary as summary
from greenroom.messages.status import FailureKind, SkipReason


class PoolError(Exception):
    """The root of every error that the pool raises of its own accord.

    All of them can be pickled, whatever their causes are: an agent's error becomes a `RemoteCause`
    (its class and its first line) on the way, since the error itself may have the request, with its
    key and its payload. So it does in a `deepcopy`; a `copy` keeps what is there.
    """

    _stays: ClassVar[tuple[str, ...]] = ()
    """Attributes that are payload: they are empty in a pickle."""
    _may_have_begun: ClassVar[bool] = True

    @property
    def started(self) -> bool:
        """Whether an agent may have begun; False only where none has: it is safe to ask again."""
        return self._may_have_begun

    def __reduce__(self) -> Any:
        state = {
            name: () if name in self._stays else fit_to_leave(value, PoolError)
            for name, value in self.__dict__.items()
            if name != "__notes__"
        }
        state["args"] = fit_to_leave(self.args, PoolError)
        state["__cause__"] = fit_to_leave(self.__cause__, PoolError)
        return _blank, (type(self),), state

    def __copy__(self) -> Self:
        copied: Self = _blank(type(self))
        copied.__dict__.update(self.__dict__)
        copied.args = self.args
        copied.__cause__ = self.__cause__
        return copied

    def __repr__(self) -> str:
        """As of any error, but that what an agent raised is shown as it would be in a pickle."""
        shown = ", ".join(map(repr, fit_to_leave(self.args, PoolError)))
        return f"{type(self).__name__}({shown})"


class AttemptError(PoolError):
    """What became of one member in one request: it failed, or it was skipped.

    Attributes:
        member: the member's name.
        index: its zero-based position in the configured order.
        kind: a `FailureKind` when it was tried, a `SkipReason` when it was not.
        error: what it raised; None when it was skipped.
        elapsed_s: how long the attempt took, in seconds; 0 when skipped.
        attempts: how often this request tried the member; 0 when skipped.
        detail: a skipped member's state in words ("reopens in 12.0 s").
        started: whether the member's agent may have begun; False when skipped.
        retry_after_s: how long it asked to be left alone, in seconds; None if it did not.
    """

    def __init__(
        self,
        member: str,
        index: int,
        kind: FailureKind | SkipReason,
        error: BaseException | None = None,
        elapsed_s: float = 0.0,
        attempts: int = 1,
        detail: str = "",
        started: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            member, index, kind, error, elapsed_s, attempts, detail, started, retry_after_s
        )
        self.member = member
        self.index = index
        self.kind = kind
        self.error = error
        self.elapsed_s = elapsed_s
        self.attempts = attempts
        self.detail = detail
        self.retry_after_s = retry_after_s
        self._started = started
        self.__cause__ = error

    @property
    def skipped(self) -> bool:
        """Whether the member was passed over without a call."""
        return isinstance(self.kind, SkipReason)

    @property
    def started(self) -> bool:
        return self._started and not self.skipped

    @property
    def errors(self) -> tuple[AttemptError, ...]:
        """What became of the members of a member that is a pool itself; else empty."""
        inner = (AllPoolMembersFailedError, DeadlineExceededError)
        return self.error.errors if isinstance(self.error, inner) else ()

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.member}: skipped, {self.kind}" + (
                f" ({self.detail})" if self.detail else ""
            )
        times = f", {self.attempts} attempts" if self.attempts > 1 else ""
        return (
            f"{self.member}: {self.kind} after {self.elapsed_s:.3f} s{times}: {summary(self.error)}"
        )


class AllPoolMembersFailedError(PoolError):
    """No member could answer the request.

    Attributes:
        pool_name: the pool's name.
        member_names: the configured members, in order.
        errors: one `AttemptError` for every member, tried or skipped, in evaluation order.
        reason: why the pool stopped trying, when it was not for want of members.
        retry_after_s: seconds until the first member that is kept out, or rests, may be back; None
            if there is none, or if nobody says.
        same_everywhere: whether it failed in one and the same way on every member it was given to,
            at least two. Then it is the request that is odd: it counts against no member.
    """

    def __init__(
        self,
        pool_name: str,
        member_names: Iterable[str],
        errors: Iterable[AttemptError],
        reason: str = "",
        retry_after_s: float | None = None,
        same_everywhere: bool = False,
    ) -> None:
        self.pool_name = pool_name
        self.member_names = tuple(member_names)
        self.errors = tuple(errors)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.same_everywhere = same_everywhere
        super().__init__(
            pool_name, self.member_names, self.errors, reason, retry_after_s, same_everywhere
        )
        first = next((e.error for e in self.errors if e.error is not None), None)
        if first is not None:
            self.__cause__ = first

    @property
    def started(self) -> bool:
        return any(e.started for e in self.errors)

    def __str__(self) -> str:
        head = f"pool {self.pool_name!r}: no member could answer"
        if self.reason:
            head += f" ({self.reason})"
        if self.same_everywhere:
            head += "; it failed in the same way everywhere"
        if self.retry_after_s is not None:
            head += f"; retry after {self.retry_after_s:.1f} s"
        return "\n".join([head, *_indented(self.errors)])


class PoolSaturatedError(PoolError):
    """The waiting queue is full, or a request of a higher priority took the place of this one.

    Attributes:
        pool_name: the pool's name.
        pending: requests that were waiting.
        retry_after_s: when to come back, in seconds: by then those that wait will have been given
            to members, at the pace of this moment. An estimate from how long recent requests have
            held their members, and from how long the running ones have.
        reason: the setting whose bound was reached: "max_pending", or "max_pending_per_key" if so
            many of those that the pool is shared out to as to this one are waiting; then `pending`
            counts these alone.
    """

    _may_have_begun = False

    def __init__(
        self,
        pool_name: str,
        pending: int,
        retry_after_s: float,
        reason: Literal["max_pending", "max_pending_per_key"] = "max_pending",
    ) -> None:
        super().__init__(pool_name, pending, retry_after_s, reason)
        self.pool_name = pool_name
        self.pending = pending
        self.retry_after_s = retry_after_s
        self.reason = reason

    def __str__(self) -> str:
        if self.reason == "max_pending_per_key":
            return (
                f"pool {self.pool_name!r} has {self.pending} requests of the same fair_by key "
                f"waiting (max_pending_per_key); retry after {self.retry_after_s:.2f} s"
            )
        return (
            f"pool {self.pool_name!r} is saturated: {self.pending} requests are waiting; "
            f"retry after {self.retry_after_s:.2f} s"
        )


class ReentrantAskError(PoolError):
    """Who asked would wait for itself.

    From inside a call of the pool's own: every slot that could become free is held by a call that
    waits for the pool. Give the member more `max_concurrency`, have the agent ask another pool, or
    let it `tell`.

    Or in a thread of the pool's own, where a done callback runs, a strategy, a sink of the log: the
    answer needs that very thread. Ask with `block=False`, `tell`, or wait in a thread of your own.
    """

    _may_have_begun = False


class DeadlineExceededError(PoolError, TimeoutError):
    """The whole request ran out of time; `errors` says what was tried until then.

    `same_everywhere` means what it does for an `AllPoolMembersFailedError`. `left_s` are the
    seconds until the deadline where no member usually answers in those, and others waited that
    could be in time; else 0.
    """

    def __init__(
        self,
        pool_name: str,
        elapsed_s: float,
        errors: Iterable[AttemptError] = (),
        same_everywhere: bool = False,
        left_s: float = 0.0,
    ) -> None:
        self.pool_name = pool_name
        self.elapsed_s = elapsed_s
        self.errors = tuple(errors)
        self.same_everywhere = same_everywhere
        self.left_s = left_s
        # Not super(): an OSError takes such arguments for errno, strerror and filename.
        Exception.__init__(self, pool_name, elapsed_s, self.errors, same_everywhere, left_s)
        first = next((e.error for e in self.errors if e.error is not None), None)
        if first is not None:
            self.__cause__ = first

    def __str__(self) -> str:
        head = f"pool {self.pool_name!r}: deadline exceeded after {self.elapsed_s:.3f} s"
        if self.left_s:
            head = (
                f"pool {self.pool_name!r}: no member answers in the {self.left_s:.3f} s that are "
                f"left until the deadline, after {self.elapsed_s:.3f} s"
            )
        return "\n".join([head, *_indented(self.errors)])


class StreamInterruptedError(PoolError):
    """A stream broke off after its first chunk, and nobody could start it over: with
    `PoolConfig.on_cut` of "raise" nobody may, with "restart" nobody was left or allowed.

    Attributes:
        pool_name: the pool's name.
        member: the member whose stream it was.
        received: the chunks that the consumer has had, in order; of a very long stream the last
            2,000, or a million characters of strings or bytes (`collect` gives them all). Where it
            has started over, those since then.
        received_count: how many those were altogether. It comes along in a pickle, they do not.
        errors: what became of the members tried; the interrupted one is included unless it was the
            pool that ended the stream by its own end.

    The `__cause__` says why: the agent's own error, a timeout, the deadline, the pool's end.
    """

    _stays = ("received",)

    def __init__(
        self,
        pool_name: str,
        member: str | None,
        errors: Iterable[AttemptError] = (),
        received: Iterable[Any] = (),
        received_count: int = 0,
    ) -> None:
        self.pool_name = pool_name
        self.member = member
        self.errors = tuple(errors)
        self.received = tuple(received)
        self.received_count = received_count
        super().__init__(pool_name, member, self.errors, (), received_count)

    def __str__(self) -> str:
        count = self.received_count
        chunks = f"{count} chunk{'' if count == 1 else 's'}"
        why = f": {summary(self.__cause__)}" if self.__cause__ is not None else ""
        return (
            f"pool {self.pool_name!r}: the stream of {self.member!r} broke off after {chunks}{why}"
        )


class RequestCancelledError(PoolError):
    """The caller gave the request up before it was answered."""


class PoolStoppedError(PoolError):
    """The pool is stopping or stopped (or draining) and takes no more requests.

    Args:
        refused: the request was not taken in at all.
    """

    def __init__(self, *args: object, refused: bool = False) -> None:
        super().__init__(*args)
        self.refused = refused

    @property
    def started(self) -> bool:
        return not self.refused


class TellNotStoredError(PoolError):
    """A durable tell was not stored, so nobody will work on it.

    Attributes:
        pool_name: the pool's name.
        reason: "full": as many lie there as may; "away": the engine is out of reach; "refused": it
            is one that loses what it is told, or takes no tell of that size.
        detail: in words.
        maybe: whether it may be stored all the same, as its connection broke off meanwhile. To tell
            it once more with the same `request_id` is safe: that is the same tell.
    """

    _may_have_begun = False

    def __init__(
        self,
        pool_name: str,
        reason: Literal["full", "away", "refused"],
        detail: str = "",
        maybe: bool = False,
    ) -> None:
        super().__init__(pool_name, reason, detail, maybe)
        self.pool_name = pool_name
        self.reason = reason
        self.detail = detail
        self.maybe = maybe

    @property
    def started(self) -> bool:
        return self.maybe

    def __str__(self) -> str:
        what = "may not be stored" if self.maybe else "is not stored"
        said = f": {self.detail}" if self.detail else ""
        return f"pool {self.pool_name!r}: the tell {what}, its courier is {self.reason}{said}"


class ResourceError(PoolError):
    """The machine had not what a call needs to begin: a thread, a file descriptor, memory.

    It says nothing of the member: its breaker does not count it, another member is tried at once,
    and the same one again once there may be some. The `__cause__` is what the system said.
    """

    _may_have_begun = False


class MemberCrashedError(PoolError):
    """The member's actor ended while it was working on the request."""


class AttemptTimeoutError(PoolError, TimeoutError):
    """One attempt ran longer than `request_timeout_s`."""


class UnsuccessfulResultError(PoolError):
    """`PoolConfig.is_failure` said that the value a member returned is a failure, or a stream ended
    without content or without the mark of its end.

    Attributes:
        kind: what kind of failure it is, judged by the value as an exception is by its own look.
        retry_after_s: how long the value says the member wants to be left alone; None if it does
            not.
        opens_at_once: whether it is certain to be the member's, whatever the request.
        lost: whether it says that the agent is gone for good, as an `AgentLostError` does.
    """

    def __init__(
        self,
        *args: object,
        kind: FailureKind = FailureKind.UNKNOWN,
        retry_after_s: float | None = None,
        opens_at_once: bool = False,
        lost: bool = False,
    ) -> None:
        super().__init__(*args)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.opens_at_once = opens_at_once
        self.lost = lost


class RemoteError(PoolError):
    """What has become of a call of an agent elsewhere, see `RemoteAgent`: what its worker has said
    of it, or that none could be reached.

    Attributes:
        kind: what kind of failure it was there.
        type: the name of the error's class there; empty where the worker has said nothing.
        text: what it said, in one line without secrets.
        retry_after_s: when the worker is to be asked again; None if nobody says.
        opens_at_once: whether it is certain to be the member's, whatever the request.
    """

    def __init__(
        self,
        text: str,
        *,
        kind: FailureKind,
        started: bool,
        type: str = "",
        retry_after_s: float | None = None,
        opens_at_once: bool | None = None,
    ) -> None:
        super().__init__(f"{type}: {text}" if type and text else type or text)
        self.kind = kind
        self.type = type
        self.text = text
        self.retry_after_s = retry_after_s
        self.opens_at_once = kind.opens_at_once if opens_at_once is None else opens_at_once
        self._started = started

    @property
    def started(self) -> bool:
        return self._started


class AgentLostError(PoolError):
    """Raised by an agent whose process, connection or client has ended for good.

    The agent is closed, and its member's factory makes another one: it is never called again. The
    request goes on, to another member or to the new agent. `Member.lost` says which other errors
    mean the same.

    Args:
        started: False where nothing of the call has begun: then a request is safe to be repeated
            that is not idempotent.
    """

    def __init__(self, *args: object, started: bool = True) -> None:
        super().__init__(*args)
        self._started = started

    @property
    def started(self) -> bool:
        return self._started


class StrategyError(PoolError):
    """A user's own routing strategy raised, or chose something that was not a candidate."""


class AgentTypeError(PoolError, TypeError):
    """What was given as an agent, or as a factory of one, is none, or only `apply` can use it: the
    message says of whom, what is wrong, and what to write.
    """

    _may_have_begun = False


class PayloadError(PoolError, ValueError):
    """What was asked cannot be said to an agent of that kind, whichever it is: half a character, a
    number that is not finite, a null in an argument. It is raised as it is, and blames no member.
    """

    _may_have_begun = False


class MemberExistsError(PoolError, ValueError):
    """A member of that name is in the pool already."""


class UnknownMemberError(PoolError, KeyError):
    """The pool has no member of that name."""

    __str__ = Exception.__str__


LACKS = (OSError, RuntimeError, MemoryError)
"""What is raised where the machine has not what is asked of it."""


def not_begun(what: str, error: BaseException) -> PoolError:
    """Why something could not begin: for want of what the machine should give, or else."""
    if isinstance(error, PoolError):
        return error
    kind = ResourceError if isinstance(error, LACKS) else PoolError
    found = kind(f"{what} could not be started: {summary(error)}")
    found.__cause__ = error
    return found


def _indented(errors: Iterable[AttemptError]) -> Iterator[str]:
    """One line an error, and below it, further in, what it consists of."""
    for error in errors:
        yield from (f"  {line}" for line in str(error).splitlines())
        yield from (f"  {line}" for line in _indented(error.errors))


def _blank(kind: type[Any]) -> Any:
    """An error to be filled: its constructor may want what a pickle does not have."""
    return cast(Any, kind).__new__(kind)

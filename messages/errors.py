"""The error tree: whatever the pool itself raises is a `PoolError`."""

from __future__ import annotations

from collections.abc import Iterable

from greenroom.messages.status import FailureKind, SkipReason


class PoolError(Exception):
    """The root of every error that the pool raises of its own accord."""


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
    ) -> None:
        super().__init__(member, index, kind, error, elapsed_s, attempts, detail)
        self.member = member
        self.index = index
        self.kind = kind
        self.error = error
        self.elapsed_s = elapsed_s
        self.attempts = attempts
        self.detail = detail
        self.__cause__ = error

    @property
    def skipped(self) -> bool:
        """Whether the member was passed over without a call."""
        return isinstance(self.kind, SkipReason)

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
        retry_after_s: seconds until the first skipped member may be back; None if unknown.
    """

    def __init__(
        self,
        pool_name: str,
        member_names: Iterable[str],
        errors: Iterable[AttemptError],
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        self.pool_name = pool_name
        self.member_names = tuple(member_names)
        self.errors = tuple(errors)
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(pool_name, self.member_names, self.errors, reason, retry_after_s)
        first = next((e.error for e in self.errors if e.error is not None), None)
        if first is not None:
            self.__cause__ = first

    def __str__(self) -> str:
        head = f"pool {self.pool_name!r}: no member could answer"
        if self.reason:
            head += f" ({self.reason})"
        if self.retry_after_s is not None:
            head += f"; retry after {self.retry_after_s:.1f} s"
        return "\n".join(
            [head, *(f"  {line}" for e in self.errors for line in str(e).splitlines())]
        )


class PoolSaturatedError(PoolError):
    """The waiting queue is full, or a request of a higher priority took the place of this one.

    Attributes:
        pool_name: the pool's name.
        pending: requests that were waiting.
        retry_after_s: when to come back, in seconds: by then those that wait will have been given
            to members, at the pace of this moment. An estimate from how long recent requests have
            held their members, and from how long the running ones have.
    """

    def __init__(self, pool_name: str, pending: int, retry_after_s: float) -> None:
        super().__init__(pool_name, pending, retry_after_s)
        self.pool_name = pool_name
        self.pending = pending
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return (
            f"pool {self.pool_name!r} is saturated: {self.pending} requests are waiting; "
            f"retry after {self.retry_after_s:.2f} s"
        )


class DeadlineExceededError(PoolError, TimeoutError):
    """The whole request ran out of time; `errors` says what was tried until then."""

    def __init__(
        self, pool_name: str, elapsed_s: float, errors: Iterable[AttemptError] = ()
    ) -> None:
        self.pool_name = pool_name
        self.elapsed_s = elapsed_s
        self.errors = tuple(errors)
        # Not super(): an OSError takes such arguments for errno, strerror and filename.
        Exception.__init__(self, pool_name, elapsed_s, self.errors)
        first = next((e.error for e in self.errors if e.error is not None), None)
        if first is not None:
            self.__cause__ = first

    def __str__(self) -> str:
        head = f"pool {self.pool_name!r}: deadline exceeded after {self.elapsed_s:.3f} s"
        return "\n".join(
            [head, *(f"  {line}" for e in self.errors for line in str(e).splitlines())]
        )


class RequestCancelledError(PoolError):
    """The caller gave the request up before it was answered."""


class PoolStoppedError(PoolError):
    """The pool is stopping or stopped (or draining) and takes no more requests."""


class MemberCrashedError(PoolError):
    """The member's actor ended while it was working on the request."""


class AttemptTimeoutError(PoolError, TimeoutError):
    """One attempt ran longer than `request_timeout_s`."""


class UnsuccessfulResultError(PoolError):
    """`PoolConfig.is_failure` said that the value a member returned is a failure."""


class StrategyError(PoolError):
    """A user's own routing strategy raised, or chose something that was not a candidate."""


class MemberExistsError(PoolError, ValueError):
    """A member of that name is in the pool already."""


class UnknownMemberError(PoolError, KeyError):
    """The pool has no member of that name."""

    __str__ = Exception.__str__


def summary(error: BaseException | None) -> str:
    """An error in one line: its type and the first line of what it says."""
    if error is None:
        return ""
    try:
        lines = str(error).strip().splitlines()
    except BaseException:  # a user's __str__ may raise anything, and this may run in an actor
        lines = []
    name = type(error).__name__
    return f"{name}: {lines[0][:200]}" if lines else name

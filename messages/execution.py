"""What the router and a member say to each other: plain data, so that a member can be remote."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field, fields
from typing import Any

from greenroom.messages.replies import Metadata
from greenroom.messages.requests import Acquire, Apply, Request
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason

Ticket = tuple[str, int]
"""A request id and the number of the attempt: what names one execution."""

Ancestor = tuple[str, Ticket]
"""A call from inside of which something is asked: the urn of its pool's router, its name there."""


@dataclass(frozen=True, slots=True)
class Execute:
    """Run one attempt of a request.

    Attributes:
        work: what the app has asked for: its payload or function, and its options.
        deadline: absolute, on the pool's monotonic clock; None without one.
        stream: whether the answer is wanted chunk by chunk.
        inside: the calls from inside of which it was asked for, the outermost first.
        context: the context variables of whoever asked; None: the agent begins without any. They
            may hold secrets and belong to their process: no pickle, copy or repr has them, and who
            takes the message in takes them out of it.
    """

    request_id: str
    attempt: int
    incarnation: int
    work: Request[Any] | Apply[Any] | Acquire
    deadline: float | None = None
    stream: bool = False
    inside: tuple[Ancestor, ...] = ()
    context: Context | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> Any:
        return type(self), tuple(getattr(self, each.name) for each in fields(self)[:-1])

    @property
    def payload(self) -> Any:
        """What the agent is given; None where it is not the pool that calls it."""
        return self.work.payload if isinstance(self.work, Request) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelExecution:
    """Stop an attempt, whose answer nobody wants any more."""

    request_id: str
    attempt: int
    reason: CancelReason


@dataclass(frozen=True, slots=True, kw_only=True)
class OfMember:
    """What a member's actor says, or what is said of it: by which of those behind its name."""

    member: str
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAttempt(OfMember):
    """What is said of one attempt of a request."""

    request_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(OfAttempt):
    """An attempt returned a value, or brought its stream to the end; its slot is free.

    `first_chunk_s` is what a stream's first chunk took, and None for all else. `metadata` is what
    the agent has said of its answer, `spent` what it has said that the attempt took.
    """

    value: Any = field(repr=False)
    elapsed_s: float
    first_chunk_s: float | None = None
    metadata: Metadata | None = field(default=None, repr=False)
    spent: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBegun(OfAttempt):
    """An attempt has brought the first chunk of its stream."""

    first_chunk_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResumed(OfAttempt):
    """A producer that a full buffer had held back goes on: it owes the next chunk from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(OfAttempt):
    """An attempt ended without a value; its slot is free.

    `started` is False only when the agent says that nothing has begun, as an inner pool can.
    `opens_at_once` says that the failure is certain to be the member's, whatever the request;
    `same_member_may_mend` that the same member may do better if it is asked again at once;
    `disconnected` that its connection was refused, broken off or closed: nobody has answered.
    """

    kind: FailureKind
    error: BaseException
    elapsed_s: float
    retry_after_s: float | None = None
    side_effects: bool = False
    started: bool = True
    opens_at_once: bool = False
    same_member_may_mend: bool = False
    disconnected: bool = False
    spent: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(OfAttempt):
    """An attempt never started; its slot is free."""

    reason: RefusalReason
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEffectsStarted(OfAttempt):
    """The agent said that the attempt must not be repeated from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSeen(OfAttempt):
    """The agent has been told by its provider how much is left of a limit.

    `whole` is how much there is after a reset; None if the provider has not said so. `at` is when
    the agent has said so, on the pool's clock: the answer may overtake this on its way.
    """

    cost: str
    remaining: int
    resets_in_s: float
    at: float
    whole: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned(OfMember):
    """How many calls a member has given up on that have not ended yet."""

    count: int

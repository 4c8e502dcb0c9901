"""What an agent may learn of the call that it is working on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, SupportsIndex

from greenroom.messages import _validate as check
from greenroom.messages.limits import MOST, REQUESTS, checked_costs
from greenroom.messages.pickling import refuse
from greenroom.messages.status import ReportedState, ReportedStateName

LimitsSeen = Callable[[str, int, float, int | None], None]
"""Is told what a provider has said of a limit: cost, remaining, resets_in_s, whole."""


class OwnMember(Protocol):
    """What an agent may say of the member that it is of, in a call or between calls, in any thread:
    for one that stands for something elsewhere and hears of that by itself. It waits for nothing.
    """

    def report(
        self, state: ReportedState | ReportedStateName, *, for_s: float | None = None, source: str
    ) -> bool:
        """What `PoolRef.report_member` says; False when the pool has ended.

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        """

    def takes(self, calls: int) -> bool:
        """So many calls at a time, if its `Member` does not say how many; False when it is gone.

        Raises:
            TypeError, ValueError: no whole number of at least 1.
        """


class CallContext:
    """What an agent may know of the call it is working on.

    An agent that has a parameter annotated `CallContext` is given one.

    Attributes:
        request_id: the request's id, the same over all of its attempts.
        key: `Request.key`.
        attempt: 1 for the first attempt of the request.
        priority: `Request.priority`.
        idempotent: `Request.idempotent`.
        metadata: `Request.metadata`.
        member: the name of the member that runs the call.
        own_member: what may be said of that member at any time, see `OwnMember`; None where the
            call is of no pool's member.
    """

    __slots__ = (
        "_now", "_on_alive", "_on_describe", "_on_limits", "_on_side_effects", "_on_spent",
        "attempt", "deadline", "idempotent", "key", "member", "metadata", "own_member", "passes_on",
        "priority", "request_id",
    )  # fmt: skip

    def __init__(
        self,
        *,
        request_id: str,
        member: str,
        attempt: int = 1,
        key: str | None = None,
        priority: int = 0,
        idempotent: bool = True,
        deadline: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        now: Callable[[], float],
        on_side_effects: Callable[[], None],
        on_alive: Callable[[], None] = lambda: None,
        on_describe: Callable[[Mapping[str, Any]], None] = lambda _: None,
        on_spent: Callable[[Mapping[str, int]], None] = lambda _: None,
        on_limits: LimitsSeen = lambda *_: None,
        own_member: OwnMember | None = None,
        passes_on: bool = False,
    ) -> None:
        self.request_id = request_id
        self.member = member
        self.attempt = attempt
        self.key = key
        self.priority = priority
        self.idempotent = idempotent
        self.deadline = deadline
        self.metadata: Mapping[str, Any] = metadata if metadata is not None else {}
        self._now = now
        self._on_side_effects = on_side_effects
        self._on_alive = on_alive
        self._on_describe = on_describe
        self._on_spent = on_spent
        self._on_limits = on_limits
        self.own_member = own_member
        # Whether what the agent of an inner pool says it has spent, and of limits, is for this call
        # as well: where that pool is one member and nothing else.
        self.passes_on = passes_on

    @property
    def remaining_s(self) -> float | None:
        """Seconds until this attempt is cut off (never below 0); None without a limit."""
        return None if self.deadline is None else max(0.0, self.deadline - self._now())

    def started_side_effects(self) -> None:
        """Say that from here on the call must not be repeated: nothing is retried after this.

        Raises:
            RequestCancelledError: the call has been given up already: the effects must not start.
        """
        self._on_side_effects()

    def alive(self) -> None:
        """Say that the agent is at work although it sends nothing, as one that thinks.

        For `first_chunk_timeout_s` and `chunk_timeout_s` (and where these are None and a stream is
        wanted, for `request_timeout_s` in their place) it is as good as a chunk that counts, but it
        does not begin the stream. What bounds a whole attempt or request is not put off by it: the
        `request_timeout_s` of an ask, a deadline. Cheap; any thread may call it, as often as it
        likes. Through a pool in a pool it reaches the outer one.

        Raises:
            RequestCancelledError: the call has been given up: there is nothing left to work for.
        """
        self._on_alive()

    def describe(self, **said: Any) -> None:
        """Say something of the answer, before it is given: which model it is of, its usage.

        It comes back in `Reply.metadata`, or at the end of a stream in `PoolStream.metadata`, where
        this call's answer is the one that is taken. What is said once more replaces what was said
        of that name before. Never logged; through a pool in a pool it reaches the outer one.
        """
        self._on_describe(said)

    def spent(self, **took: float) -> None:
        """Say what the call has really taken: `spent(tokens=812)`.

        When the call ends, however it ends, that takes the place of what was reserved for it in the
        rate limits of its member (`Member.limits`); of what is not named, what was reserved stays.
        `requests=` says how many calls of the provider it was, 0 if it came to none. What is said
        once more replaces what was said of that name before.

        Raises:
            TypeError, ValueError: something else than numbers of at least 0.
        """
        self._on_spent(checked_costs("spent", took))

    def limits(
        self,
        *,
        remaining: int,
        resets_in_s: float,
        cost: str = REQUESTS,
        limit: int | None = None,
    ) -> None:
        """Say what the provider has said of a rate limit, in its headers say. The member is given
        no more than that, less what has begun since; whether or not it has such a `Limit`.

        Args:
            remaining: how much is left.
            resets_in_s: seconds until it is whole again.
            cost: of what: "requests", "tokens".
            limit: how much the whole is. Given, it comes back evenly until the reset, as OpenAI's
                and Anthropic's limits do; None: all of it at the reset.

        Raises:
            TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        """
        check.whole("remaining", remaining, maximum=MOST)
        check.number("resets_in_s", resets_in_s)
        check.name("cost", cost)
        check.whole("limit", limit, minimum=1, maximum=MOST, optional=True)
        self._on_limits(cost, remaining, resets_in_s, limit)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a CallContext", "it belongs to one call, in the process that runs it")

    def __repr__(self) -> str:
        return f"CallContext({self.request_id!r}, member={self.member!r}, attempt={self.attempt})"

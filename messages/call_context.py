"""What an agent may learn of the call that it is working on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, SupportsIndex

from greenroom.messages.pickling import refuse


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
    """

    __slots__ = (
        "_now", "_on_alive", "_on_describe", "_on_side_effects", "attempt", "deadline",
        "idempotent", "key", "member", "metadata", "priority", "request_id",
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

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a CallContext", "it belongs to one call, in the process that runs it")

    def __repr__(self) -> str:
        return f"CallContext({self.request_id!r}, member={self.member!r}, attempt={self.attempt})"

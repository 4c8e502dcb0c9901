"""What a routing strategy is given, and what it answers."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable


class Candidate(Protocol):
    """A member that can take the request now."""

    @property
    def name(self) -> str:
        """Unique in the pool."""

    @property
    def index(self) -> int:
        """Its place in the configured order: grows with every member added, is never used again."""

    @property
    def weight(self) -> float:
        """`Member.weight`, at least 0."""

    @property
    def priority(self) -> int:
        """`Member.priority`, lower is preferred."""

    @property
    def cost(self) -> float:
        """`Member.cost`, at least 0."""

    @property
    def in_flight(self) -> int:
        """Calls running on it now, below `max_concurrency`."""

    @property
    def max_concurrency(self) -> int:
        """Calls it takes at a time, at least 1."""

    def latency_s(self, now: float) -> float | None:
        """Its latency estimate in seconds; None before the first sample."""

    def error_rate(self, now: float) -> float:
        """Its recent error rate, from 0 to 1."""


Candidates = Sequence[Candidate]


@dataclass(slots=True)  # frozen ones take three times as long to make, and every pick makes one
class PickContext:
    """What a strategy may know of the request and of the moment. It is made anew for every pick."""

    now: float
    """Monotonic seconds."""
    key: str | None = None
    """`Request.key`."""
    request_id: str = ""
    """The same over all attempts of a request."""
    busy: Collection[str] = ()
    """For an exhaustive strategy: untried members that could take it once they have room.

    By returning None it has the request wait for one of them.
    """


@runtime_checkable
class RoutingStrategy(Protocol):
    """Picks one of the members that can take a request. Any object with such a `pick` is one.

    A strategy object belongs to one pool. Five things are optional, and looked up by name:

    - `name: str`, for statistics and logs (else the name of the class);
    - `exhaustive: bool`: every member is tried once, whatever `max_retries` says;
    - `one_at_a_time: bool`: a half-open member is not tried beside another one, but waited for;
    - `record(name: str, succeeded: bool) -> None`: after every attempt, except those that say
      nothing about the member (the caller's own error, a cancelled call);
    - `members_changed(names: Sequence[str]) -> None`: the configured order, at the start and
      whenever it changes.
    """

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        """One of `candidates`, or None for none of these (a weight of 0).

        Args:
            candidates: the members that can take the request now, by index, at least one.
            context: the request and the moment.
            rng: the only source of chance, so that equal seeds give equal picks.
        """


class BuiltIn:
    """What the strategies of this package share.

    As they are, not inherited from, the router trusts them: `candidates` is its own list (a
    `FreeMembers`), which they leave as it is, and what they choose is not checked.
    """

    name: ClassVar[str]
    """The value of its `LoadBalanceStrategy`."""
    exhaustive: ClassVar[bool] = False
    """Whether every member is tried once, whatever `max_retries` says."""

    takes_turns: ClassVar[bool] = False
    """Whether it goes round: by what it has chosen before. It is made without arguments then."""

    # Those that stick to members, for what these keep of earlier requests, have this method too:
    #
    #   def preferred(self, members, context) -> Iterable[Sequence[Candidate]]
    #
    # All members by preference, whether or not they can take the request now, equals together.
    # `PoolConfig.stay_for_retry_after_s` goes by it, and does nothing with the other strategies.

    def __repr__(self) -> str:
        return f"<strategy {self.name}>"

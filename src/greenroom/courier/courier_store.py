"""Where durable tells lie, and what is asked of an engine that keeps them. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from greenroom.messages import _validate as check

REASONS_KEPT = 10
"""How many reasons a tell brings along: the last ones."""
KNOWN_FOR_S = 120
"""For how long an id is the same tell after it was worked off; told later it is a new one."""
_MOST = 2**31


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a delivery has come to nothing: kinds and types, never a text of an error.

    Attributes:
        delivery: which one, from 1.
        at: seconds since the epoch, by the clock of the process that says so.
        what: of each member that was tried, its failure.
    """

    delivery: int
    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a tell beside itself.

    Attributes:
        deliveries: how often it was received, this time included, but for the times that count for
            nothing.
        failures: after how many of these something was heard of it; after the others its process
            was gone.
        reasons: the last ones.
    """

    deliveries: int = 0
    failures: int = 0
    reasons: tuple[Reason, ...] = ()

    def text(self) -> str:
        """As it lies in an engine."""
        reasons = [[each.delivery, each.at, each.what] for each in self.reasons[-REASONS_KEPT:]]
        return json.dumps([1, self.deliveries, self.failures, reasons])

    @classmethod
    def read(cls, text: str | bytes | None) -> Record:
        """What such a text says; nothing is known where it says nothing, or what cannot be."""
        try:
            version, deliveries, failures, reasons = json.loads(text or "")
            if version != 1:
                return cls()
            known = tuple(Reason(int(n), float(at), str(what)) for n, at, what in reasons)
            if type(deliveries) is not int or type(failures) is not int:
                return cls()
            if not 0 <= failures <= deliveries < _MOST:
                return cls()
            return cls(deliveries, failures, known)
        # A thread that reads on would end by what anybody can write there.
        except (ValueError, TypeError, OverflowError, RecursionError):
            return cls()


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """A tell that was received, and is this process's for `lease_s`.

    Attributes:
        body: the parcel.
        record: with this delivery counted.
        token: what the engine knows it by.
    """

    request_id: str
    body: bytes = field(repr=False)
    record: Record
    token: Any


class Done(NamedTuple):
    """It has been worked off: it is forgotten."""

    receipt: Receipt


class Again(NamedTuple):
    """It is received again, by anybody, not before so many seconds.

    Attributes:
        record: as it is to be known from now on.
    """

    receipt: Receipt
    after_s: float
    record: Record


class Bury(NamedTuple):
    """It is dead: it is kept aside until somebody says what becomes of it."""

    receipt: Receipt
    record: Record
    at: float


Settlement = Done | Again | Bury


@dataclass(frozen=True, slots=True)
class DeadTell:
    """A tell that has been set aside.

    Attributes:
        died_at: seconds since the epoch.
        body: the parcel, with its payload.
    """

    request_id: str
    record: Record
    died_at: float
    body: bytes = field(repr=False)


class QueueFullError(Exception):
    """As many as may lie there do: nothing is stored."""


class RefusedError(Exception):
    """The engine is there, and is not to be used; or it takes no such tell. The text says why."""


class CourierStore(Protocol):
    """A connection to the tells of one pool, for any thread. Whatever it raises but the two errors
    above means that it is of no use any more: whoever has it closes it and opens another one.
    Nothing takes longer than the courier's `timeout_s` and a bit.
    """

    def put(self, request_id: str, body: bytes) -> None:
        """Store a tell. It is stored when this returns; one of an id that lies there, or did a
        moment ago, is the same one.

        Raises:
            QueueFullError, RefusedError: it is not stored.
        """

    def receive(self, most: int, wait_s: float) -> Sequence[Receipt]:
        """Tells that are due, at most so many; wait so long for the first."""

    def extend(self, receipts: Sequence[Receipt]) -> None:
        """They are still worked on: they are this process's for `lease_s` from now."""

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Say what has become of them. Each holds when this returns; said twice is as said once."""

    def dead(self) -> Sequence[DeadTell]:
        """Those that are set aside, the oldest first."""

    def revive(self, request_id: str) -> bool:
        """Have one that is set aside be received as if it were new; whether there was one."""

    def drop(self, request_id: str) -> bool:
        """Forget one that is set aside; whether there was one."""

    def close(self) -> None:
        """End the connection; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CourierRules:
    """What every engine is told of durable tells.

    Args:
        max_deliveries: after how many a tell is dead. Those in which its process ended count, those
            that found no member available do not.
        backoff_s: up to how long the second delivery waits after the first; doubled each time.
        max_backoff_s: the longest such wait.
        lease_s: after how long without a sign of life of its process a tell is given to another.
        max_queue: how many may lie there; one more is an error of its teller's.
        timeout_s: how long the engine may take to answer.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    max_deliveries: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 300.0
    lease_s: float = 30.0
    max_queue: int = 100_000
    timeout_s: float = 5.0

    def check(self) -> None:
        """Refuse what does not fit."""
        check.whole("max_deliveries", self.max_deliveries, minimum=1)
        check.number("backoff_s", self.backoff_s)
        check.number("max_backoff_s", self.max_backoff_s, minimum=self.backoff_s)
        check.number("lease_s", self.lease_s, minimum=0.5)
        check.whole("max_queue", self.max_queue, minimum=1)
        check.number("timeout_s", self.timeout_s, above=True)


@runtime_checkable
class Courier(Protocol):
    """Where durable tells lie: what `AgentPool.start(courier=...)` takes. It says where an engine
    is, and holds no connection: those are made in the threads of a pool, or of a command.
    """

    @property
    def rules(self) -> CourierRules:
        """How tells are treated."""

    def open(self, pool: str) -> CourierStore:
        """Connect to the tells of a pool, by the name that it was given.

        Raises:
            RefusedError: the engine would lose what it is told.
            Exception: it is away.
        """

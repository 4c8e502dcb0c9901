"""What a pool and the thread that shares for it say of rate limits that processes have together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BucketKey = tuple[str, str, str, float]
"""Which limit it is: whether it is a member's or a group's, whose, its cost, its window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWanted:
    """A pool asks for a part of a limit, and says what it has done with the last one.

    Attributes:
        serial: the how-manieth of its limit; its answer has the same.
        amount, per_s: the limit.
        want: how much it is to hold altogether; 0 gives all of it back.
        least: how much there must be for who waits; 0 where nobody does.
        holds: how much of its lease is left, and may still be spent.
        spent: how much it has ever taken from the limit: a counter, so that what is said twice
            counts once.
        used: how much of that is of the last `per_s` seconds.
        ago_s: how long ago it has taken the last of it.
        lease_s: for how long it wants to hold it.
        changes: by how much what was said before has turned out to be less, by the slice that the
            answer has named.
    """

    key: BucketKey
    serial: int
    amount: int
    per_s: float
    want: int
    least: int
    holds: int
    spent: int
    used: int
    ago_s: float
    lease_s: float
    changes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGranted:
    """What a pool holds of a limit from now on, instead of what it had before.

    Attributes:
        holds: how much, with what it had said that is left.
        wait_s: in how many seconds there may be as much as was wanted at least.
        slice: where what was spent is counted.
        processes: how many there are that use the limit, this one included.
    """

    key: BucketKey
    serial: int
    holds: int
    wait_s: float
    slice: int
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRefused:
    """Nobody lends: a pool goes by itself.

    Attributes:
        ever: whether there may be leases later. Not where the store of an app's own has no ledger.
    """

    key: BucketKey
    serial: int
    ever: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitTold:
    """What a process has learned of a member's limit.

    Attributes:
        remaining, whole, resets_in_s: as a provider has said; None where it is a pace.
        pace_per_s: calls a second that refusals have taught this process.
    """

    member: str
    cost: str
    remaining: int | None = None
    whole: int | None = None
    resets_in_s: float = 0.0
    pace_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitHeard:
    """What other processes have learned of a member's limit.

    Attributes:
        remaining, whole, resets_in_s: what the provider has said last to any of them, and in how
            many seconds from now it is whole again; None where it has said nothing.
        age_s: how long ago that was.
        processes: how many use the limit, this one included.
        pace_per_s: the sum of the paces of the others.
        paces: how many of them have one.
        joined: how many of these have come since the last word.
    """

    member: str
    cost: str
    remaining: int | None = None
    whole: int | None = None
    resets_in_s: float = 0.0
    age_s: float = 0.0
    processes: int = 1
    pace_per_s: float = 0.0
    paces: int = 0
    joined: int = 0

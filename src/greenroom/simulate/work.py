"""A request on its way through the simulated pool, and its calls."""

from __future__ import annotations

from greenroom.actors.table import Slot
from greenroom.messages.status import FailureKind


class Job:
    """One request.

    Attributes:
        measured: whether it arrived after the warm-up, so is part of the result.
        failures: how each member that was tried failed it last, by name.
        call: the attempt that is running; None while the request waits.
        fate: what became of it: "answered", or why not; None while it is under way.
    """

    __slots__ = (
        "arrived_at",
        "attempts",
        "backoffs",
        "call",
        "deadline",
        "failures",
        "fate",
        "key",
        "measured",
    )

    def __init__(
        self, arrived_at: float, deadline: float | None, key: str | None, measured: bool
    ) -> None:
        self.arrived_at = arrived_at
        self.deadline = deadline
        self.key = key
        self.measured = measured
        self.attempts = 0
        self.backoffs = 0
        self.failures: dict[str, FailureKind] = {}
        self.call: Call | None = None
        self.fate: str | None = None


class Call:
    """One attempt, on one member.

    Attributes:
        epoch, trial: the breaker's epoch at the start, and whether it was half-open then.
        served: whether the member works on it; until then it waits in the member's own queue.
        ended: whether it is over; what still comes of it is ignored.
        kind, retry_after_s: how it will end, once the member works on it.
    """

    __slots__ = (
        "ended",
        "epoch",
        "job",
        "kind",
        "retry_after_s",
        "served",
        "slot",
        "started_at",
        "trial",
    )

    def __init__(self, job: Job, slot: Slot, started_at: float) -> None:
        self.job = job
        self.slot = slot
        self.started_at = started_at
        self.epoch = slot.route.epoch
        self.trial = slot.route.trial_permits is not None
        self.served = False
        self.ended = False
        self.kind: FailureKind | None = None
        self.retry_after_s: float | None = None

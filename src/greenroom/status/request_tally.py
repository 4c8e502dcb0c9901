"""What has become of the requests of a pool, counted for `/metrics`. Pure: it watches a
`RequestFlow`, and is read by another thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextvars import Context

from greenroom.actors.request.flow_observer import Ended
from greenroom.actors.request.job import Attempt, AttemptRole, Failure, Job
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CancelReason, FailureKind
from greenroom.messages.supervision import RoutingSnapshot

BOUNDS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Upper bounds of the buckets of all histograms: those that OpenTelemetry's conventions for
generative AI advise for `gen_ai.client.operation.duration`."""


class Histogram:
    """How often something took how long."""

    __slots__ = ("_counts", "total_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def note(self, seconds: float) -> None:
        """It took so long."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def cumulative(self) -> list[int]:
        """How many took as long as each bound at most; the last: all of them."""
        total, sums = 0, []
        for count in list(self._counts):
            total += count
            sums.append(total)
        return sums

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)


class Histograms:
    """One for each set of labels."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[tuple[str, ...], Histogram] = {}

    def note(self, labels: tuple[str, ...], seconds: float) -> None:
        """Something with these labels took so long."""
        found = self._of.get(labels)
        if found is None:
            found = self._of[labels] = Histogram()
        found.note(seconds)

    def items(self) -> Iterator[tuple[tuple[str, ...], Histogram]]:
        """Each, as it is now; another thread may go on counting."""
        return iter(list(self._of.items()))


class RequestTally:
    """A `FlowObserver` that counts. What it counts is read by other threads while it goes on.

    Attributes:
        request_s: from a request's arrival to its end, by outcome.
        attempt_s: what attempts took that have begun, by member and outcome.
        queue_s: from a request's arrival to its first attempt.
        first_chunk_s: of streams, by member.
    """

    in_time = False

    def __init__(self) -> None:
        self.request_s = Histograms()
        self.attempt_s = Histograms()
        self.queue_s = Histograms()
        self.first_chunk_s = Histograms()
        self._turned_away = 0
        # What goes well is in `attempt_s` alone: as little as can be is done for every request.
        self._went_ill: Counter[tuple[str, str, str]] = Counter()
        # Whose end has been told, until they are released: be it said twice, it counts once.
        self._ended: set[Attempt] = set()

    @property
    def requests(self) -> Counter[str]:
        """By outcome: answered, failed, cancelled, rejected, turned_away."""
        counted = Counter({how: each.count for (how,), each in self.request_s.items()})
        counted["turned_away"] = self._turned_away
        return counted

    @property
    def attempts(self) -> Counter[tuple[str, str, str]]:
        """By member, outcome and kind. The outcome is succeeded, failed, refused (it has not begun)
        or left (the request went on, or ended, without it); the kind is that of the failure, or why
        it was left.
        """
        counted = Counter(dict(self._went_ill))
        for (member, outcome), each in self.attempt_s.items():
            if outcome == "succeeded":
                counted[member, outcome, ""] = each.count
        return counted

    def accepted(self, job: Job, now: float) -> None:
        """Counted at its end."""

    def turned_away(self, request_id: str, error: BaseException, now: float) -> None:
        self._turned_away += 1

    def queued(self, job: Job, now: float) -> None:
        """What it waits is told with its first attempt."""

    def given(self, job: Job, attempt: Attempt, role: AttemptRole, now: float) -> Context | None:
        if attempt.number == 1:
            self.queue_s.note((), now - job.accepted_at)
        return None

    def first_chunk(self, attempt: Attempt, first_chunk_s: float, now: float) -> None:
        self.first_chunk_s.note((attempt.member,), first_chunk_s)

    def succeeded(self, attempt: Attempt, elapsed_s: float, now: float) -> None:
        # Not marked as ended: nothing comes behind it but its release.
        if not self._ended or attempt not in self._ended:
            # Of a stream `elapsed_s` is its first chunk, which has a histogram of its own.
            self.attempt_s.note((attempt.member, "succeeded"), now - attempt.started_at)

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        if attempt in self._ended:
            return
        self._ended.add(attempt)
        outcome = "failed" if failure.started else "refused"
        self._went_ill[attempt.member, outcome, failure.kind.value] += 1
        if failure.started:
            self.attempt_s.note((attempt.member, outcome), failure.elapsed_s)

    def left(self, attempt: Attempt, reason: CancelReason, now: float) -> None:
        if attempt not in self._ended:
            self._ended.add(attempt)
            self._went_ill[attempt.member, "left", reason.value] += 1

    def released(self, attempt: Attempt, now: float) -> None:
        if self._ended:
            self._ended.discard(attempt)

    def resumes(self, job: Job, member: str, at: float, now: float) -> None:
        """Retries are counted by the pool."""

    def ended(
        self, job: Job, how: Ended, error: BaseException | None, member: str | None, now: float
    ) -> None:
        self.request_s.note((how,), now - job.accepted_at)

    def rests(self, member: str, kind: FailureKind, until: float, now: float) -> None:
        """An event tells of it."""

    def table(self, snapshot: RoutingSnapshot, now: float) -> None:
        """The pool is asked who is there."""

    def configured(self, config: PoolConfig, now: float) -> None:
        """An event tells of it."""

"""What becomes of a tell that was received: given to the pool, again later, or dead. Pure.

    received -> counted by the engine -> given -> done
                                              -> again, after a backoff; dead after max_deliveries
                                              -> again, uncounted: nobody is there, the pool ends
             -> dead: it was counted max_deliveries times, and its processes ended each time

A tell whose last process has ended without a word may be what ended it. Of those one at a time is
worked on in a process, so that a tell which ends processes takes no other such one along.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from greenroom.actors.policy.backoff import ceiling
from greenroom.courier.courier_store import (
    KNOWN_FOR_S,
    Again,
    Bury,
    CourierRules,
    Done,
    Reason,
    Receipt,
    Record,
    Settlement,
)
from greenroom.courier.parcel import ParcelError, unpacked
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    DeadlineExceededError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    ResourceError,
)
from greenroom.messages.requests import Request
from greenroom.messages.status import FailureKind, SkipReason

DONE_KEPT = 10_000
"""How many ids are remembered of what was worked off here, each for `KNOWN_FOR_S`: what an engine
has forgotten of these meanwhile, and delivers again, is not worked on again. What comes later may
have been told anew."""
PARKED_S = 5.0
"""Up to how long a tell waits that has found nobody available."""
TURN_S = 1.0
"""Up to how long one waits whose turn it is not."""
WHAT_SHOWN = 500
"""How long a reason may be."""

_AWAY = frozenset(
    {
        FailureKind.UNAVAILABLE,
        FailureKind.RATE_LIMITED,
        FailureKind.AUTH,
        FailureKind.QUOTA,
        FailureKind.INTERRUPTED,
        FailureKind.CREATE_FAILED,
    }
)
"""What says that a member is away, and nothing of what it was asked."""

_FOR_NOW = frozenset(
    {
        SkipReason.CIRCUIT_OPEN,
        SkipReason.TRIAL_RUNNING,
        SkipReason.COOLING_DOWN,
        SkipReason.HEADROOM,
        SkipReason.SATURATED,
        SkipReason.STARTING,
        SkipReason.STALLED,
        SkipReason.UNREACHABLE,
        SkipReason.DRAINING,
    }
)
"""Why a member is passed over that may be there soon."""


@dataclass(frozen=True, slots=True)
class Give:
    """Have the pool work on it."""

    receipt: Receipt
    request: Request[Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be told of a settlement.

    Attributes:
        settlement: None: there is nothing to say to the engine.
        retried_in_s: after how long it is delivered again, if it has failed; else None.
        dead: whether it is, and was not before.
    """

    settlement: Settlement | None
    retried_in_s: float | None = None
    dead: bool = False


class Deliveries:
    """The tells that this process works on. It has no lock: whoever has it holds one.

    Args:
        rng: for the backoffs.
    """

    def __init__(self, rules: CourierRules, rng: Random) -> None:
        self._rules = rules
        self._rng = rng
        self._in_hand: dict[str, tuple[Receipt, bool]] = {}
        self._done: OrderedDict[str, float] = OrderedDict()
        self._suspect: str | None = None

    def __len__(self) -> int:
        return len(self._in_hand)

    def receipts(self) -> Iterator[Receipt]:
        """Those in hand: they are to be extended."""
        return (receipt for receipt, _ in self._in_hand.values())

    def received(self, receipt: Receipt, now: float) -> Give | Verdict:
        """A tell was received.

        Args:
            now: seconds since the epoch.
        """
        request_id, record = receipt.request_id, receipt.record
        if abs(now - self._done.get(request_id, float("-inf"))) < KNOWN_FOR_S:
            return Verdict(Done(receipt))
        held = self._in_hand.get(request_id)
        if held is not None:  # delivered anew, as its lease had ended: what runs is for that one
            self._in_hand[request_id] = receipt, held[1]
            return Verdict(None)
        try:
            request = unpacked(receipt.body)
        except ParcelError as error:
            return self._failed(receipt, f"unreadable: {error}", True, now, None)
        limit = self._limit(request.idempotent)
        lost = record.deliveries - 1 - record.failures
        if record.deliveries > limit:
            gone = f"its process was gone before there was an outcome, {lost} of {limit} times"
            return self._buried(receipt, gone, now)
        if lost > 0:
            if self._suspect is not None:
                return self._uncounted(receipt, self._rng.uniform(0.1, TURN_S))
            self._suspect = request_id
        self._in_hand[request_id] = receipt, request.idempotent
        return Give(receipt, request)

    def answered(
        self, request_id: str, error: BaseException | None, available: bool, now: float
    ) -> Verdict:
        """The pool has answered what it was given.

        Args:
            error: None: it went well.
            available: whether any member is, now.
            now: seconds since the epoch.
        """
        held = self._in_hand.pop(request_id, None)
        if self._suspect == request_id:
            self._suspect = None
        if held is None:
            return Verdict(None)
        receipt, idempotent = held
        if error is None:
            self._done[request_id] = now
            self._done.move_to_end(request_id)
            if len(self._done) > DONE_KEPT:
                self._done.popitem(last=False)
            return Verdict(Done(receipt))
        if isinstance(error, RequestCancelledError):
            return self._buried(receipt, "cancelled", now)
        retry_after_s = getattr(error, "retry_after_s", None)
        if not isinstance(retry_after_s, int | float):
            retry_after_s = None
        begun = not idempotent and bool(getattr(error, "started", True))
        if not begun and says_nothing_of_it(error, available):
            if isinstance(error, PoolStoppedError):
                return self._uncounted(receipt, 0.0)
            # Not until somebody may be back: another process may have a member now, and nobody
            # without one receives it.
            wait_s = PARKED_S if retry_after_s is None else min(PARKED_S, max(0.1, retry_after_s))
            return self._uncounted(receipt, wait_s * self._rng.uniform(0.5, 1.0))
        return self._failed(receipt, what(error), idempotent, now, retry_after_s)

    def _limit(self, idempotent: bool) -> int:
        return self._rules.max_deliveries if idempotent else 1

    def _failed(
        self,
        receipt: Receipt,
        why: str,
        idempotent: bool,
        now: float,
        retry_after_s: float | None,
    ) -> Verdict:
        failed = replace(receipt.record, failures=receipt.record.failures + 1)
        if failed.deliveries >= self._limit(idempotent):
            return self._buried(replace(receipt, record=failed), why, now)
        record = _with_reason(failed, why, now)
        rules = self._rules
        longest = ceiling(failed.deliveries, rules.backoff_s, 2.0, rules.max_backoff_s)
        after_s = longest * self._rng.uniform(0.5, 1.0)
        if retry_after_s is not None:
            after_s = max(after_s, min(retry_after_s, rules.max_backoff_s))
        return Verdict(Again(receipt, after_s, record), retried_in_s=after_s)

    def _buried(self, receipt: Receipt, why: str, now: float) -> Verdict:
        record = _with_reason(receipt.record, why, now)
        return Verdict(Bury(receipt, record, now), dead=True)

    def _uncounted(self, receipt: Receipt, after_s: float) -> Verdict:
        record = receipt.record
        record = replace(record, deliveries=max(0, record.deliveries - 1))
        return Verdict(Again(receipt, after_s, record))


def _with_reason(record: Record, why: str, now: float) -> Record:
    reason = Reason(record.deliveries, now, why[:WHAT_SHOWN])
    return replace(record, reasons=(*record.reasons, reason))


def says_nothing_of_it(error: BaseException, available: bool) -> bool:
    """Whether a failure is nothing that the tell could help: it is parked, and not counted.

    Args:
        available: whether any member is available after it. What fails although others are well is
            counted, whatever it is: it may be the tell that is odd.
    """
    if isinstance(error, PoolStoppedError | PoolSaturatedError | ResourceError):
        return True
    if isinstance(error, DeadlineExceededError) and not error.errors:
        return not available  # it has waited in vain
    if not isinstance(error, AllPoolMembersFailedError | DeadlineExceededError):
        return False
    tried = [each for each in error.errors if not each.skipped]
    if not tried:
        return any(each.kind in _FOR_NOW for each in error.errors)
    return not available and all(each.kind in _AWAY for each in tried)


def what(error: BaseException) -> str:
    """A failure in one line: members, kinds, types. No text of an error, which may be payload."""
    if isinstance(error, AllPoolMembersFailedError | DeadlineExceededError) and error.errors:
        late = "deadline; " if isinstance(error, DeadlineExceededError) else ""
        return late + ", ".join(
            f"{each.member}: {each.kind}"
            + ("" if each.error is None else f" ({type(each.error).__name__})")
            for each in error.errors
        )
    return type(error).__name__

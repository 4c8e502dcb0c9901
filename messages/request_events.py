"""What becomes of a request, and of each attempt at it."""

from __future__ import annotations

from greenroom.messages.event_base import Event, event
from greenroom.messages.status import FailureKind


@event("attempt.started", "DEBUG")
class AttemptStarted(Event):
    """A member was given a request."""

    _says = "attempt {0.attempt} started"
    attempt: int = 1


@event("attempt.succeeded", "DEBUG")
class AttemptSucceeded(Event):
    """A member answered."""

    _says = "attempt {0.attempt} succeeded in {0.elapsed_s:.3f} s"
    attempt: int = 1
    elapsed_s: float = 0.0


@event("attempt.failed", "WARNING")
class AttemptFailed(Event):
    """A member failed."""

    _says = "attempt {0.attempt} failed after {0.elapsed_s:.3f} s: {0.kind}, {0.error}"
    attempt: int = 1
    elapsed_s: float = 0.0
    kind: FailureKind = FailureKind.UNKNOWN
    error: str = ""


@event("attempt.lost")
class AttemptLost(Event):
    """Another attempt for the same request was faster: this one is cancelled, and not counted."""

    _says = "attempt {0.attempt} lost to a faster one; it counts for nothing"
    attempt: int = 1


@event("hedge.started")
class HedgeStarted(Event):
    """A member was given a request beside another one that takes its time."""

    _says = "{0.beside} has not answered in {0.after_s:.3f} s: attempt {0.attempt}"
    attempt: int = 2
    beside: str = ""
    after_s: float = 0.0


@event("retry.scheduled")
class RetryScheduled(Event):
    """Nobody untried is left: the request waits before it is tried again."""

    _says = "no untried member left; attempt {0.attempt} in {0.delay_s:.3f} s"
    attempt: int = 2
    delay_s: float = 0.0


@event("failover", "WARNING")
class Failover(Event):
    """A request moves on from the member that failed it to another one."""

    _says = "failed over to {0.to} (attempt {0.attempt})"
    attempt: int = 2
    to: str = ""


@event("request.rejected", "WARNING")
class RequestRejected(Event):
    """A request was refused before anything ran.

    Attributes:
        skipped: each member that could not take it, and why.
    """

    reason: str = ""
    skipped: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"request rejected: {self.reason}{_listed(skipped=self.skipped)}"


@event("request.completed", "DEBUG")
class RequestCompleted(Event):
    """A request ended with a value, with the caller's own error, or because its caller left."""

    _says = "request {0.outcome} in {0.elapsed_s:.3f} s, {0.attempts} attempt(s)"
    outcome: str = "answered"
    attempts: int = 1
    elapsed_s: float = 0.0


@event("request.exhausted", "ERROR")
class RequestExhausted(Event):
    """A request failed: nobody could answer it, or its time was over.

    Attributes:
        skipped: each member that was not asked, and why.
        tried: each member that was, and the kind of its failure.
        advice: what comes next, and what is to be done about it.
    """

    reason: str = ""
    attempts: int = 0
    elapsed_s: float = 0.0
    skipped: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    advice: str = ""

    def describe(self) -> str:
        spent = f"{self.elapsed_s:.3f} s, {self.attempts} attempt(s)"
        members = _listed(tried=self.tried, skipped=self.skipped)
        advice = f"; {self.advice}" if self.advice else ""
        return f"request failed after {spent}: {self.reason}{members}{advice}"


@event("dead_letter", "WARNING")
class DeadLetter(Event):
    """What nobody is left to hear: a late result, or the error of a request without an asker."""

    _says = "dead letter: {0.reason}"
    reason: str = ""


def _listed(**members: tuple[str, ...]) -> str:
    """What became of which members, by the name of that."""
    return "".join(f"; {what}: {', '.join(each)}" for what, each in members.items() if each)

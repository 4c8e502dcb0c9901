"""What a member's breaker does."""

from __future__ import annotations

from greenroom.messages.event_base import Event, event
from greenroom.messages.status import FailureKind


@event("breaker.opened", "ERROR")
class BreakerOpened(Event):
    """A member gets no more requests for a while.

    Attributes:
        observed: whether it would get none: the breaker is only observed (`circuit="observe"`).
        advice: what is to be done about it.
        kind: the failure that has opened it; None where none did.
        heard: whether somebody outside has said so, and nothing has failed here.
    """

    reason: str = ""
    reopens_in_s: float | None = None
    observed: bool = False
    advice: str = ""
    kind: FailureKind | None = None
    heard: bool = False

    def severity(self) -> str:
        return "WARNING" if self.observed or self.heard else self.level

    def describe(self) -> str:
        if self.observed:
            return f"breaker would open: {self.reason}; it is only observed"
        after = (
            "stays open until it is reset"
            if self.reopens_in_s is None
            else f"next trial in {self.reopens_in_s:.1f} s"
        )
        advice = f"; {self.advice}" if self.advice else ""
        return f"breaker opened: {self.reason}; {after}{advice}"


@event("breaker.half_open")
class BreakerHalfOpened(Event):
    """A member is being tried again; `observed`: it would be."""

    trial: str = ""
    observed: bool = False

    def describe(self) -> str:
        if self.observed:
            return "breaker would be half open: the next calls would be trials; it is only observed"
        return f"breaker half open: trying it with {self.trial}"


@event("breaker.kept", "WARNING")
class BreakerKept(Event):
    """A member whose breaker is open is tried all the same, one request at a time: more would be
    out than may be. Told once until it is back.

    Attributes:
        may_be_out: how many may be.
        members: of how many.
    """

    _says = (
        "breaker open, and tried all the same, one request at a time: "
        "at most {0.may_be_out} of {0.members} members may be out"
    )
    may_be_out: int = 0
    members: int = 0


@event("breaker.spared", "WARNING")
class BreakerSpared(Event):
    """A member fails often enough for its breaker to open, and that stays as it is: its peers fail
    alike, and all answer some. Told once until it fails less.
    """

    _says = "breaker stays as it is: the others fail as often, and all answer some"


@event("breaker.closed")
class BreakerClosed(Event):
    """A member is back; `observed`: it would be; `heard`: somebody outside has said so."""

    reason: str = ""
    observed: bool = False
    heard: bool = False

    def describe(self) -> str:
        return f"breaker {'would be ' if self.observed else ''}closed: {self.reason}"

"""Events of durable tells, and of the courier that keeps them."""

from __future__ import annotations

from greenroom.messages.event_base import Event, event


@event("courier.away", "WARNING")
class CourierAway(Event):
    """The engine that keeps the pool's durable tells is out of reach, or must not be used. It is
    tried again each second; who tells meanwhile is told so. Told once until it is back.
    """

    _says = "the courier of durable tells is out of reach ({0.error})"
    error: str = ""


@event("courier.back")
class CourierBack(Event):
    """The engine that keeps the pool's durable tells is there again."""

    _says = "back: the courier of durable tells is there again"


@event("tell.failed", "WARNING")
class TellFailed(Event):
    """A delivery of a durable tell has failed; there will be another one.

    Attributes:
        delivery: which one, from 1.
        of: after how many it is dead.
        again_in_s: the least time until the next, in seconds.
        reason: members and kinds of failures.
    """

    _says = "delivery {0.delivery} of {0.of} failed, again in {0.again_in_s:.1f} s: {0.reason}"
    delivery: int = 1
    of: int = 1
    again_in_s: float = 0.0
    reason: str = ""


@event("tell.dead", "WARNING")
class TellDead(Event):
    """A durable tell is dead: it is set aside, with its reasons, for `greenroom dead`.

    Attributes:
        deliveries: how often it was delivered, once more than allowed where its processes ended.
        reasons: of the last ones, in order.
    """

    deliveries: int = 1
    reasons: tuple[str, ...] = ()

    def describe(self) -> str:
        last = self.reasons[-1] if self.reasons else "unknown"
        return f"dead after {self.deliveries} deliveries, set aside: {last}"

"""What happens to the event loops that agents run on."""

from __future__ import annotations

from greenroom.messages.event_base import Event, event


@event("loop.stalled", "ERROR")
class LoopStalled(Event):
    """An event loop does not answer: something on it blocks. Once for every stall.

    Attributes:
        member, request_id: whose code it is; None where that cannot be told.
        loop: the name of the loop's thread.
        stalled_s: for how long it has not answered, at least.
        where: the line that blocks (`file:line in function`); empty where there is none to see.
        replaced_in_s: when its members get a fresh loop unless it answers; None: never.
    """

    loop: str = ""
    stalled_s: float = 0.0
    where: str = ""
    replaced_in_s: float | None = None

    def describe(self) -> str:
        who = "code of no known member" if self.member is None else f"member {self.member!r}"
        where = f" at {self.where}" if self.where else ""
        after = self.replaced_in_s
        rest = "" if after is None else f"; replaced in {after:.1f} s unless it answers"
        return (
            f"loop stalled: {self.loop} has not answered for {self.stalled_s:.1f} s, "
            f"blocked by {who}{where}{rest}"
        )


@event("loop.recovered")
class LoopRecovered(Event):
    """A stalled event loop answers again; `member` and `request_id` are those of the stall."""

    _says = "loop recovered: {0.loop} answers again after {0.stalled_s:.1f} s"
    loop: str = ""
    stalled_s: float = 0.0


@event("loop.replaced", "WARNING")
class LoopReplaced(Event):
    """A stalled event loop has been given up: `moved` restart on a fresh one, unpunished.

    The member that blocked it, where it is known, has crashed.
    """

    loop: str = ""
    stalled_s: float = 0.0
    moved: tuple[str, ...] = ()

    def describe(self) -> str:
        moved = ", ".join(self.moved) or "nobody"
        return (
            f"loop replaced: {self.loop} had not answered for {self.stalled_s:.1f} s; "
            f"moved to a fresh one: {moved}"
        )


@event("loop.ended", "WARNING")
class LoopEnded(Event):
    """The app's event loop has ended before the pool: `moved` go on with a loop of the pool's own.

    What ran there has been interrupted; agents that a factory has made are made anew.
    """

    loop: str = ""
    moved: tuple[str, ...] = ()

    def describe(self) -> str:
        moved = ", ".join(self.moved) or "nobody"
        return (
            f"loop ended: {self.loop} was closed, or nobody runs it, before the pool was stopped; "
            f"moved to the pool's own: {moved}"
        )

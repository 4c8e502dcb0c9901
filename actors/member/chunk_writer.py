"""The producer's end of a stream: what makes the chunks of one attempt the answer to a request.

The first chunk that counts decides: until then the attempt may be given up for another one, from
then on the stream is this member's.

Empty chunks that come before it are kept back, so that nobody is shown those of a member that has
nothing to say. All of them are the winner's stream, though, and none is dropped. The usual
keep-alive is the same object again and again (None, "", b""): it is kept once, with a count, so an
agent may send it for as long as `first_chunk_timeout_s` lets it. Of different ones `stream_buffer`
are kept; with the next the stream begins for its consumer, who holds the agent back from then on as
ever. It could not be held back before: what it waits for would be the chunk that it may not make.
Begun so, it is given up for another member all the same as long as no chunk counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from greenroom.actors.claims.claims import Claim, Claims
from greenroom.actors.executors.call import Call
from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.reading.stream_judge import StreamJudge
from greenroom.actors.runtime.channel import Channel, Run, Wake, call_each
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.waker import wait_here
from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import Ticket
from greenroom.messages.replies import Restarted


class ChunkWriter:
    """One attempt's way into the channel. It is used by one thread (or one task) at a time.

    Args:
        begun: told `first_chunk_s` once, when the stream has begun: how long the first chunk took.
        resumed: told when a producer goes on that was held back, if somebody watches for that, and
            when the first chunk that counts comes in a stream that has begun without one.
        accept: raises if an answer that does not stream is a failure.

    Attributes:
        first_chunk_s: how long the first chunk took; None as long as the stream has not begun.
        stopped: whether the agent was told that nobody wants more of its chunks.
        life_signs: its signs of life.
    """

    __slots__ = (
        "_accept",
        "_begun",
        "_call",
        "_capacity",
        "_channel",
        "_claim",
        "_claims",
        "_clock",
        "_held",
        "_judge",
        "_member",
        "_resumed",
        "_ticket",
        "first_chunk_s",
        "life_signs",
        "stopped",
    )

    def __init__(
        self,
        ticket: Ticket,
        member: str,
        claims: Claims,
        clock: Clock,
        config: PoolConfig,
        begun: Callable[[float], object],
        resumed: Callable[[], object],
        accept: Callable[[Any], None],
    ) -> None:
        self.first_chunk_s: float | None = None
        self.stopped = False
        self._ticket = ticket
        self._member = member
        self._claims = claims
        self._clock = clock
        self._judge = StreamJudge(config)
        self._begun = begun
        self._resumed = resumed
        self._accept = accept
        self._call: Call | None = None
        self._claim: Claim | None = None
        self._channel: Channel | None = None
        self._held: list[Any] = []
        self._capacity = config.stream_buffer
        self.life_signs = claims.life_signs(ticket) or LifeSigns(clock.now())

    def start(self, call: Call) -> None:
        """The call whose chunks come has begun."""
        self._call = call

    def write(self, chunk: Any) -> bool:
        """Pass a chunk on; False when nobody wants more. Leading empty ones are kept until the
        first that counts.
        """
        if type(chunk) is Restarted:
            return self._void(chunk) or self._stop()
        judge = self._judge
        empty = judge.add(chunk)
        if judge.fault is not None:
            self._check()
        # Read once, here and elsewhere: `release` may come from another thread, where the call has
        # been given up and this one has not noticed yet.
        channel = self._channel
        if channel is None:
            return (self._hold(chunk) if empty else self._begin(chunk, counts=True)) or self._stop()
        life_signs = self.life_signs
        if empty:
            return channel.put(chunk, self._ticket) or self._stop()
        first = not life_signs.counts
        if not channel.put(chunk, self._ticket, first):
            return self._stop()
        life_signs.since = self._clock.now()
        if first:
            life_signs.counts = True
            self._resumed()
        return True

    def mark(self) -> bool:
        """A chunk that counts, and that its consumer has by another way; False when nobody wants
        more.
        """
        channel = self._channel
        if channel is None:
            return self._begin(counts=True)
        channel.taken += 1
        self.life_signs.since = self._clock.now()
        return not channel.closed(self._ticket)

    def hold(self) -> None:
        """The consumer is at work: nothing is owed meanwhile."""
        self.life_signs.held_at = self._clock.now()

    def go_on(self) -> None:
        """The consumer wants more."""
        if self.life_signs.resume(self._clock.now()):
            self._resumed()

    def accept(self, answer: Any) -> None:
        """Pass on an answer that does not stream, as its only chunk."""
        self._accept(answer)
        self._judge.answered()
        if self.write(answer):
            self.flush()

    def flush(self) -> None:
        """The agent has nothing to add: what was kept back is the stream, if it is a whole one."""
        if not self.stopped:
            self._judge.end()
            self._check()
        if self._channel is None and self._held and not self._begin():
            self._stop()

    def wanted(self) -> bool:
        """Whether somebody waits for more of a stream that has begun."""
        channel = self._channel
        return channel is not None and not channel.closed(self._ticket)

    @property
    def claim(self) -> Claim | None:
        """What it has claimed by beginning its stream; None before that."""
        return self._claim

    def release(self) -> None:
        """The call is over: what it was made of must not wait for the garbage collector. A thread
        that was given up on finds out when it writes next.
        """
        self._call = self._claim = self._channel = None
        self._held.clear()

    def finish(self) -> Claim | None:
        """Take it upon oneself to end the stream that was begun; None if somebody else has, or the
        consumer has gone and has told the router so.
        """
        # The look at `left` first: a stream that is sealed here has to be ended here, too.
        if self._claim is None or self._channel is None or self._channel.left:
            return None
        return self._claim if self._channel.seal(self._ticket) else None

    def has_room(self) -> bool:
        """Whether the next chunk may be made at once."""
        channel = self._channel
        return channel is None or not channel.full()

    def wait_for_room(self) -> bool:
        """Wait, in a worker thread, until the next chunk may be made; False when nobody wants it
        any more: a generator is closed where it waits, and does not make one in vain.
        """
        channel = self._held_back()
        if channel is None:
            return True
        bell: SimpleQueue[None] = SimpleQueue()
        # Not waited for with a limit: it is woken by room, by the end of the stream or by its being
        # left to another attempt; the router sees to the last two.
        channel.watch_room(functools.partial(bell.put, None), self._ticket)
        bell.get()
        return self._go_on(channel)

    async def room(self) -> bool:
        """The same on a loop."""
        channel = self._held_back()
        if channel is None:
            return True
        waiting, wake = wait_here()
        channel.watch_room(wake, self._ticket)
        await waiting
        return self._go_on(channel)

    def _check(self) -> None:
        """Raise what the judge has found."""
        if self._judge.fault is not None:
            raise self._judge.error(self._member, self._clock.wall())

    def _hold(self, chunk: Any) -> bool:
        held = self._held
        last = held[-1] if held else None
        if type(last) is Run and last.chunk is chunk:
            last.count += 1
        elif held and last is chunk:
            held[-1] = last = Run(chunk)
            last.count += 1
        elif len(held) < self._capacity:
            held.append(chunk)
        else:
            return self._begin(chunk)
        return self._is_wanted()

    def _is_wanted(self) -> bool:
        call = self._call
        return call is not None and call.cancelled is None

    def _void(self, marker: Restarted) -> bool:
        """An inner pool's member was cut, and another one starts over there."""
        self._judge = self._judge.anew()
        self.life_signs.since = self._clock.now()
        if self._channel is not None:
            return self._channel.void(marker, self._ticket)
        self._held.clear()
        return self._is_wanted()

    def _stop(self) -> bool:
        self.stopped = True
        return False

    def _begin(self, *latest: Any, counts: bool = False) -> bool:
        """Make the stream this member's, with what was kept back and the latest chunk, if there is
        one; False when nobody wants it.

        Args:
            counts: the latest chunk does.
        """
        call = self._call
        if call is None or call.cancelled is not None:
            return False
        now, wanted = self._clock.now(), True
        wakes: list[Wake] = []

        # Called under the lock of the claims: nothing in there may wait. Nor may anybody be woken
        # there, which may run a done callback of the app's: the router waits for that lock.
        def fill(claim: Claim, channel: Channel) -> None:
            nonlocal wanted
            self._channel, self._claim = channel, claim  # in this order: see `Executions.alive`
            for chunk in self._held:
                channel.put(chunk, self._ticket, later=wakes)
            for chunk in latest:
                wanted = channel.put(chunk, self._ticket, counts, wakes)
            if counts and not latest:  # see `mark`
                channel.counted = True
                channel.taken = 1

        life_signs = self.life_signs
        life_signs.counts = counts
        if counts:
            life_signs.since = now
        try:
            if self._claims.begin(self._ticket, self._member, fill) is None:
                return False
        finally:
            call_each(wakes)
        self._held.clear()
        self.first_chunk_s = now - call.started_at
        # Only now, when the consumer can have the chunk: nobody waits for the router to hear of it.
        self._begun(self.first_chunk_s)
        return wanted

    def _held_back(self) -> Channel | None:
        """The channel, if it has no room."""
        channel = self._channel
        if channel is None or not channel.full():
            return None
        self.life_signs.held_at = self._clock.now()
        return channel

    def _go_on(self, channel: Channel) -> bool:
        if channel.closed(self._ticket):
            return self._stop()
        self.go_on()
        return True

"""The producer's end of a stream: what makes the chunks of one attempt the answer to a request.

The first chunk that counts decides: until then the attempt may be given up for another one, from
then on the stream is this member's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from greenroom.actors.calls import Call
from greenroom.actors.channel import Channel
from greenroom.actors.clock import Clock
from greenroom.actors.desk import Desk
from greenroom.actors.jobs import Job
from greenroom.actors.streamjudge import StreamJudge
from greenroom.actors.waker import wait_here
from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import Ticket


class ChunkWriter:
    """One attempt's way into the channel. It is used by one thread (or one task) at a time.

    Args:
        begun: told `first_chunk_s` once, when the stream has begun: how long the first chunk took.
        resumed: told when a producer goes on that was held back, if somebody watches for that.
        accept: raises if an answer that does not stream is a failure.

    Attributes:
        first_chunk_s: how long the first chunk took; None as long as the stream has not begun.
        stopped: whether the agent was told that nobody wants more of its chunks.
    """

    __slots__ = (
        "_accept",
        "_begun",
        "_call",
        "_channel",
        "_clock",
        "_desk",
        "_held",
        "_job",
        "_judge",
        "_member",
        "_resumed",
        "_ticket",
        "first_chunk_s",
        "stopped",
    )

    def __init__(
        self,
        ticket: Ticket,
        member: str,
        desk: Desk,
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
        self._desk = desk
        self._clock = clock
        self._judge = StreamJudge(config)
        self._begun = begun
        self._resumed = resumed
        self._accept = accept
        self._call: Call | None = None
        self._job: Job | None = None
        self._channel: Channel | None = None
        self._held: deque[Any] = deque(maxlen=config.stream_buffer)

    def start(self, call: Call) -> None:
        """The call whose chunks come has begun."""
        self._call = call

    def write(self, chunk: Any) -> bool:
        """Pass a chunk on; False when nobody wants more. Leading empty ones are kept until the
        first that counts, the latest of them if there are many.
        """
        empty = self._judge.add(chunk)
        self._check()
        channel = self._channel
        if channel is None:
            return self._hold(chunk) if empty else self._begin(chunk) or self._stop()
        if not channel.put(chunk):
            return self._stop()
        if not empty:
            channel.since = self._clock.now()
        return True

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
        return channel is not None and not channel.closed()

    def release(self) -> None:
        """The call is over: what it was made of must not wait for the garbage collector. A thread
        that was given up on finds out when it writes next.
        """
        self._call = self._job = self._channel = None
        self._held.clear()

    def finish(self) -> Job | None:
        """Take it upon oneself to end the stream that was begun; None if somebody else has, or the
        consumer has gone and has told the router so.
        """
        if self._job is None or self._channel is None or self._channel.left:
            return None
        return self._job if self._channel.seal() else None

    def wait_for_room(self) -> bool:
        """Wait, in a worker thread, until the next chunk may be made; False when nobody wants it
        any more: a generator is closed where it waits, and does not make one in vain.
        """
        channel = self._held_back()
        if channel is None:
            return True
        gate = threading.Lock()
        gate.acquire()
        channel.watch_room(gate.release)
        gate.acquire()
        return self._go_on(channel)

    async def room(self) -> bool:
        """The same on a loop."""
        channel = self._held_back()
        if channel is None:
            return True
        waiting, wake = wait_here()
        channel.watch_room(wake)
        await waiting
        return self._go_on(channel)

    def _check(self) -> None:
        """Raise what the judge has found."""
        if self._judge.fault is not None:
            raise self._judge.error(self._member, self._clock.wall())

    def _hold(self, chunk: Any) -> bool:
        self._held.append(chunk)
        call = self._call
        return (call is not None and call.cancelled is None) or self._stop()

    def _stop(self) -> bool:
        self.stopped = True
        return False

    def _begin(self, *first: Any) -> bool:
        """Make the stream this member's, with what was kept back and the `first` chunk that counts,
        if there is one; False when nobody wants it.
        """
        call = self._call
        if call is None or call.cancelled is not None:
            return False
        now, wanted = self._clock.now(), True

        def fill(channel: Channel) -> None:
            nonlocal wanted
            channel.since = now
            if first and len(self._held) == self._held.maxlen:
                self._held.popleft()  # the buffer is to hold the chunk that counts as well
            for chunk in (*self._held, *first):
                wanted = channel.put(chunk)

        job = self._desk.begin(self._ticket, self._member, fill)
        if job is None:
            return False
        self._held.clear()
        self.first_chunk_s = now - call.started_at
        self._job, self._channel = job, job.channel
        self._begun(self.first_chunk_s)
        return wanted or not first

    def _held_back(self) -> Channel | None:
        """The channel, if it has no room."""
        channel = self._channel
        if channel is None or not channel.full():
            return None
        channel.since = None
        return channel

    def _go_on(self, channel: Channel) -> bool:
        if channel.closed():
            return self._stop()
        channel.since = self._clock.now()
        if channel.watched:
            channel.watched = False
            self._resumed()
        return True

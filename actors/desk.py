"""The answer desk: where a call that succeeds, on this machine, answers its asker without detour.

Telling the router first and leaving the answer to it costs a wake-up of the router's thread that
the asker would wait for. So whoever ends an attempt claims it here: the thread in which its agent
returned, or the router that gives it up. There is one claim for an attempt, hence one answer.

A stream is claimed by its first chunk, and once more, at its channel, by whoever ends it. Where two
attempts race for one request, the claim is the race's as well; and who may race asks here right
before its agent begins, since another one may have started side effects meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from greenroom.actors import forks
from greenroom.actors.channel import Channel, Cut
from greenroom.actors.jobs import Job
from greenroom.actors.pulse import Pulse
from greenroom.messages.execution import Ticket
from greenroom.messages.replies import Reply


class Desk:
    """Attempts whose answer is still open. What an ask needs is one operation of a dict: atomic.

    Attributes:
        unbegun: attempts that may race with another one, until their agents begin: they ask
            `may_begin`. Who is not in there need not. Read only.
    """

    def __init__(self) -> None:
        self._open: dict[Ticket, Job] = {}
        self.unbegun: dict[Ticket, Job] = {}
        self._lock = threading.Lock()
        self._born = forks.generation

    def __len__(self) -> int:
        return len(self._open)

    def open(self, ticket: Ticket, job: Job) -> None:
        """The router has given an attempt to a member."""
        self._open[ticket] = job

    def await_begin(self, ticket: Ticket, job: Job) -> None:
        """The router has an attempt ask before its agent begins."""
        self.unbegun[ticket] = job

    def has_ended(self, ticket: Ticket) -> None:
        """An attempt is over, be it that it has never begun."""
        self.unbegun.pop(ticket, None)

    def may_begin(self, ticket: Ticket) -> bool:
        """Whether the agent of an attempt may begin, asked right before it does, where it does;
        False once another attempt of its request has started side effects. Who begins has asked
        before that note, and counts as running beside it; or it finds the note.
        """
        job = self.unbegun.pop(ticket, None)
        race = job.race if job is not None else None  # read once: the router may call a race off
        return race is None or not race.bars(ticket)

    def is_open(self, ticket: Ticket) -> bool:
        """Whether nobody has claimed the attempt so far."""
        return ticket in self._open

    def look(self, ticket: Ticket) -> Job | None:
        """The request of an attempt that nobody has claimed so far."""
        return self._open.get(ticket)

    def pulse(self, ticket: Ticket) -> Pulse | None:
        """The pulse of an attempt that the router watches; None of any other."""
        job = self._open.get(ticket)
        attempt = None if job is None else job.attempt_of(ticket)
        return None if attempt is None else attempt.pulse

    def claim(self, ticket: Ticket) -> Job | None:
        """Take it upon oneself to answer with an attempt; None when somebody answers already."""
        job = self._open.pop(ticket, None)
        race = job.race if job is not None else None  # read once: the router may call a race off
        return job if race is None or race.win(ticket) else None

    def begin(
        self,
        ticket: Ticket,
        member: str,
        fill: Callable[[Job, Channel], object] = lambda job, channel: None,
    ) -> Job | None:
        """The attempt has its first chunk: from here on the stream is its own. None when it has
        been given up, or another one was faster.

        Args:
            fill: puts the first chunk in, without waiting, and notes whose stream it is now, before
                anybody can have that chunk. Who gives the stream up does so before, or finds it
                there: none is broken off before its consumer can have the first.
        """
        with self._lock:
            job = self.claim(ticket)
            channel = job.channel if job is not None else None
            if job is None or channel is None:
                return None
            channel.begun_by = ticket
            channel.member = member
            channel.attempts = job.attempts
            channel.errors = tuple(job.failures.values())
            channel.start_over()
            fill(job, channel)
            return job

    def let_begin(self) -> None:
        """Wait for whoever begins a stream right now, which takes no time: an attempt that is on
        the desk no more has begun its stream after this, or it has been given up.
        """
        if self._born == forks.generation:  # else it may be held for ever
            with self._lock:
                pass

    def withdraw(self, ticket: Ticket) -> bool:
        """Let nobody answer with an attempt any more; False when it has been claimed already."""
        with self._lock:  # see `start_side_effects`
            return self._open.pop(ticket, None) is not None

    def give_up(self, ticket: Ticket, job: Job) -> bool:
        """The router ends an attempt, or the stream it has begun; False when it has ended by itself
        and its report is on its way.
        """
        if self.withdraw(ticket):
            return True
        if job.channel is None:
            return False
        with self._lock:  # whoever begins right now, or starts side effects, has done so after this
            return job.channel.seal(ticket)

    def reopen(self, job: Job, number: int, cut: Cut | None) -> None:
        """The router has ended the stream that an attempt had begun, and has another one begin.

        Args:
            number: the highest of the attempts so far.
            cut: what is to be said of it; None if it had no chunk that counts.
        """
        channel = job.channel
        assert channel is not None
        with self._lock:
            if job.race is not None:
                job.race.reopen(number)
            channel.reopen(cut)

    def start_side_effects(self, ticket: Ticket) -> bool:
        """Note that an attempt must not be repeated; False when it has been given up already, or
        has lost a race.

        Whoever withdraws the attempt has done so before, or finds the note; none that has been
        withdrawn wins a race. The note comes before the look at the race: the router, which sees to
        the race first and then to the note, begins none without seeing one of them. Where the asker
        is another pool, its attempt must not be repeated either.

        Raises:
            RequestCancelledError: that pool has given its attempt up.
        """
        if self._born != forks.generation:  # an agent's child of a fork: the attempt is not its own
            return False
        with self._lock:
            job = self._open.get(ticket)
            attempt = job.attempt_of(ticket) if job is not None else None
            if job is None or attempt is None:
                return False
            attempt.side_effects = True
            race = job.race
            if race is not None and not race.start_side_effects(ticket):
                return False
        if job.future is not None:
            job.future.on_side_effects()
        return True

    def start_side_effects_in_stream(self, ticket: Ticket, job: Job) -> bool:
        """The same for an attempt that has begun its stream: it might be started over."""
        channel = job.channel
        with self._lock:
            attempt = job.attempt_of(ticket)
            if channel is None or channel.closed(ticket) or attempt is None:
                return False
            attempt.side_effects = True
            if job.race is not None:  # it has won by its first chunk: others may not have begun yet
                job.race.start_side_effects(ticket)
        if job.future is not None:
            job.future.on_side_effects()
        return True


def reply(job: Job, value: Any, member: str, elapsed_s: float) -> None:
    """Give the asker, if there is one, what a member returned; of a stream, its end."""
    if job.channel is not None and job.future is not None:
        job.future.resolve()
    elif job.future is not None:
        job.future.resolve(
            Reply(
                value,
                member=member,
                attempts=job.attempts,
                elapsed_s=elapsed_s,
                request_id=job.id,
                errors=tuple(job.failures.values()) if job.failures else (),
            )
        )

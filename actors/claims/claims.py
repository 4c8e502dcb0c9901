"""Claims: where a call that succeeds, on this machine, answers its asker without detour.

Telling the router first and leaving the answer to it costs a wake-up of the router's thread that
the asker would wait for. So whoever ends an attempt claims it here: the thread in which its agent
returned, or the router that gives it up. There is one claim for an attempt, hence one answer.

A stream is claimed by its first chunk, and once more, at its channel, by whoever ends it. Where two
attempts race for one request, the claim is the race's as well; and who may race asks here right
before its agent begins, since another one may have started side effects meanwhile.

All that the two sides share of a request is its `Claim`. The threads that answer see nothing else
of the router's; the router sees by it what they have done and it has not read of yet.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from greenroom.actors.claims.race import Race
from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.channel import Channel, Cut
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages.errors import AttemptError
from greenroom.messages.execution import Ticket
from greenroom.messages.replies import NO_METADATA, Reply


class Claim:
    """What whoever answers a request has to know: all that the router shares of it.

    The router writes it, in its turn, before it opens an attempt to claims or while one is open;
    who answers reads it once the attempt is claimed. But for `side_effects`, which who runs the
    agent writes, and for the signs of life: each is written where its chunks are made.

    Attributes:
        future: where the answer goes; None for a tell.
        channel: where the chunks go; None when it is one answer that is asked for.
        attempts: how many there have been so far.
        errors: of the members that have failed, one each; replaced, not changed.
        trial: whether the attempt that was opened last is that of a member which is half-open.
        race: between which attempts; None as long as there is one at a time.
        attempt: the one that was opened last, by the router's own name: nothing to be looked at.
        side_effects: the attempts that must not be repeated; changed under the lock of the claims.
        life_signs: the signs of life that the router watches, of each attempt to stream.
        metadata: what the agent of the answer has said of it; set by who answers.
    """

    __slots__ = (
        "accepted_at",
        "attempt",
        "attempts",
        "channel",
        "errors",
        "future",
        "life_signs",
        "metadata",
        "race",
        "request_id",
        "side_effects",
        "trial",
    )

    def __init__(
        self,
        request_id: str,
        future: PoolFuture[Any] | None,
        channel: Channel | None,
        accepted_at: float,
    ) -> None:
        self.request_id = request_id
        self.future = future
        self.channel = channel
        self.accepted_at = accepted_at
        self.attempts = 0
        self.errors: tuple[AttemptError, ...] = ()
        self.trial = False
        self.race: Race | None = None
        self.attempt: Any = None
        self.side_effects: tuple[Ticket, ...] = ()
        self.life_signs: dict[Ticket, LifeSigns] | None = None
        self.metadata = NO_METADATA


class Claims:
    """Attempts whose answer is still open. What an ask needs is one operation of a dict: atomic.

    Attributes:
        open: the router gives an attempt to a member. To be called before the member hears of it:
            the answer may be there before the sending ends.
        unbegun: attempts that may race with another one, until their agents begin: they ask
            `may_begin`. Who is not in there need not. Read only.
    """

    def __init__(self) -> None:
        self._open: dict[Ticket, Claim] = {}
        self.open: Callable[[Ticket, Claim], None] = self._open.__setitem__
        self.unbegun: dict[Ticket, Claim] = {}
        # Always the first where two are held: the race's lock and the channel's are taken inside
        # of it, never the other way round. An ask is claimed without it.
        self._lock = threading.Lock()
        self._born = forks.generation

    def __len__(self) -> int:
        return len(self._open)

    def await_begin(self, ticket: Ticket, claim: Claim) -> None:
        """The router has an attempt ask before its agent begins."""
        # Before the member hears of it, as in `open`: it may ask at once, in another thread.
        self.unbegun[ticket] = claim

    def has_ended(self, ticket: Ticket) -> None:
        """An attempt is over, be it that it has never begun."""
        self.unbegun.pop(ticket, None)

    def may_begin(self, ticket: Ticket) -> bool:
        """Whether the agent of an attempt may begin, asked right before it does, where it does;
        False once another attempt of its request has started side effects. Who begins has asked
        before that note, and counts as running beside it; or it finds the note.
        """
        claim = self.unbegun.pop(ticket, None)
        race = claim.race if claim is not None else None  # read once: it may be called off
        return race is None or not race.bars(ticket)

    def is_open(self, ticket: Ticket) -> bool:
        """Whether nobody has claimed the attempt so far."""
        return ticket in self._open

    def look(self, ticket: Ticket) -> Claim | None:
        """What there is to know of an attempt that nobody has claimed so far."""
        return self._open.get(ticket)

    def life_signs(self, ticket: Ticket) -> LifeSigns | None:
        """The signs of life of an attempt that the router watches; None of any other."""
        claim = self._open.get(ticket)
        return None if claim is None or claim.life_signs is None else claim.life_signs.get(ticket)

    def claim(self, ticket: Ticket) -> Claim | None:
        """Take it upon oneself to answer with an attempt; None when somebody answers already."""
        # The pop decides, and not a look before it: of all who try for one ticket one gets the
        # claim. A loser of the race has taken its own claim out as well: nobody else need do so.
        claim = self._open.pop(ticket, None)
        race = claim.race if claim is not None else None  # read once: it may be called off
        return claim if race is None or race.win(ticket) else None

    def begin(
        self,
        ticket: Ticket,
        member: str,
        fill: Callable[[Claim, Channel], object] = lambda claim, channel: None,
    ) -> Claim | None:
        """The attempt has its first chunk: from here on the stream is its own. None when it has
        been given up, or another one was faster.

        Args:
            fill: puts the first chunk in, without waiting, and notes whose stream it is now, before
                anybody can have that chunk. Who gives the stream up does so before, or finds it
                there: none is broken off before its consumer can have the first.
        """
        with self._lock:
            # Under the lock, other than for an ask: whoever gives the stream up finds it either
            # open or begun, never in between (`let_begin`, `give_up`).
            claim = self.claim(ticket)
            channel = claim.channel if claim is not None else None
            if claim is None or channel is None:
                return None
            # The chunks of an attempt before are refused from here on.
            channel.begun_by = ticket
            channel.member = member
            channel.attempts = claim.attempts
            channel.errors = claim.errors
            channel.start_over()
            fill(claim, channel)
            return claim

    def let_begin(self) -> None:
        """Wait for whoever begins a stream right now, which takes no time: an attempt that is open
        to claims no more has begun its stream after this, or it has been given up.
        """
        if self._born == forks.generation:  # else it may be held for ever
            with self._lock:
                pass

    def withdraw(self, ticket: Ticket) -> bool:
        """Let nobody answer with an attempt any more; False when it has been claimed already."""
        with self._lock:  # see `start_side_effects`
            return self._open.pop(ticket, None) is not None

    def give_up(self, ticket: Ticket, claim: Claim) -> bool:
        """The router ends an attempt, or the stream it has begun; False when it has ended by itself
        and its report is on its way.
        """
        # Not yet begun, or an ask: then there is nothing at its channel. The other way round, one
        # could begin between the two looks.
        if self.withdraw(ticket):
            return True
        if claim.channel is None:
            return False
        with self._lock:  # whoever begins right now, or starts side effects, has done so after this
            return claim.channel.seal(ticket)

    def reopen(self, claim: Claim, number: int, cut: Cut | None) -> None:
        """The router has ended the stream that an attempt had begun, and has another one begin.

        Args:
            number: the highest of the attempts so far.
            cut: what is to be said of it; None if it had no chunk that counts.
        """
        channel = claim.channel
        assert channel is not None
        with self._lock:
            if claim.race is not None:
                claim.race.reopen(number)
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
            claim = self._open.get(ticket)
            if claim is None:
                return False
            # A new tuple: the router looks into it without the lock.
            claim.side_effects += (ticket,)
            race = claim.race
            if race is not None and not race.start_side_effects(ticket):
                return False
        # Outside of the lock: the asker may be another pool, with claims and a lock of its own.
        if claim.future is not None:
            claim.future.on_side_effects()
        return True

    def start_side_effects_in_stream(self, ticket: Ticket, claim: Claim) -> bool:
        """The same for an attempt that has begun its stream: it might be started over."""
        channel = claim.channel
        with self._lock:
            if channel is None or channel.closed(ticket):
                return False
            claim.side_effects += (ticket,)
            if claim.race is not None:  # it has won by its first chunk: others may begin yet
                claim.race.start_side_effects(ticket)
        if claim.future is not None:
            claim.future.on_side_effects()
        return True


def reply(claim: Claim, value: Any, member: str, elapsed_s: float) -> None:
    """Give the asker, if there is one, what a member returned; of a stream, its end."""
    future = claim.future
    if future is not None and claim.channel is not None:
        claim.channel.metadata = claim.metadata
        future.resolve()
    elif future is not None:
        future.resolve(
            Reply(
                value,
                member=member,
                attempts=claim.attempts,
                elapsed_s=elapsed_s,
                request_id=claim.request_id,
                errors=claim.errors,
                metadata=claim.metadata,
            )
        )

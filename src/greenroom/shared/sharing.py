"""What a process tells the others of its members, what it believes of what they tell, who tries a
member that was out, and when it is on its own. Pure: state, event and `now` in, effects out.

Who finds a fault says so, and tries first, when its own breaker half-opens. The others have their
breakers open until then and two seconds more, and some jitter: if nothing is heard by that time,
the finder is gone, or has no request to try it with. While a trial goes on it is said, and nobody
else begins one.

A word is one of many that may be lost or come late: each holds for a time, and what nobody says any
more is forgotten. So the worst that a store can do is to leave each process on its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from greenroom.messages.status import FailureKind, ReportedState
from greenroom.shared.state_store import LONGEST_TTL_S, Key, Lying, Said, Topic, Word, key_of

POLL_S = 1.0
"""How often the store is looked at, whatever it says of itself."""
TURN_S = 2.0
"""How much longer than who has found a fault the others wait."""
JITTER_S = 1.0
"""How much longer than that at most, drawn anew for each word."""
TRYING_S = 2.0
"""For how long the word holds that a member is being tried; while the trial goes on it is said
again.
"""
CLOSED_S = 30.0
"""For how long it is said that a member is back: longer than anybody waits for that word."""
FIRST_LOOK_S, LONGEST_LOOK_S = 0.01, 0.5
"""How soon, and how often at least, it is looked whether somebody else has answered, or whether a
trial has begun.
"""
LOOKS_CLOSELY_S = 0.5
"""For so long it is looked all the time: where there are requests, somebody answers soon."""
MOST_WORDS = 10_000
"""More than that are not read."""
UNSURE_S = 2.0
"""Who has failed so shortly before another one's fault is no witness that the network is there."""
_SLACK_S = 1.0
"""By less than that two rests are the same."""


@dataclass(frozen=True, slots=True)
class Put:
    """Have a word lie in the store."""

    key: Key
    word: Word
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Say:
    """Report a member to one's own pool."""

    member: str
    state: ReportedState
    for_s: float | None
    source: str
    kind: FailureKind | None = None


@dataclass(frozen=True, slots=True)
class LookAtMembers:
    """Find out when the members have answered last, and what runs on them: see `members`."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Tell that the store is away: each process is on its own."""

    why: str


@dataclass(frozen=True, slots=True)
class Back:
    """Tell that it is there again."""


Effect = Put | Say | LookAtMembers | Alone | Back


class Looked(NamedTuple):
    """How a member is: when it has answered and failed last, as far as it has, and how many calls
    run on it.
    """

    answered_at: float | None = None
    failed_at: float | None = None
    busy: int = 0


@dataclass(slots=True)
class _Out:
    """A member whose breaker is open here, or half-open.

    Attributes:
        until: when it half-opens.
        trying: whether it has.
        found: whether it was found out here; else it is known from others.
        said: whether the others know of it.
    """

    until: float
    found: bool
    kind: FailureKind | None
    since: float
    trying: bool = False
    said: bool = False
    look_s: float = FIRST_LOOK_S
    look_from: float = math.inf
    look_at: float = math.inf
    renew_at: float = -math.inf

    @property
    def waits_for_look(self) -> bool:
        return self.said if self.trying else self.found and not self.said

    def look_soon(self, now: float) -> None:
        self.look_from, self.look_s = now, FIRST_LOOK_S
        self.look_at = now + self.look_s

    def look_again(self, now: float) -> None:
        if now >= self.look_from + LOOKS_CLOSELY_S:
            self.look_s = min(2 * self.look_s, LONGEST_LOOK_S)
        self.look_at = now + self.look_s


@dataclass(slots=True)
class _Seen:
    word: Word
    until: float


@dataclass(slots=True, eq=False)
class Sharing:
    """One process.

    Args:
        by: what it is called, unique among all.
        source: what it is called for people.

    Attributes:
        alone: whether the store is away.
    """

    by: str
    source: str
    rng: Random
    alone: bool = False
    _number: int = 0
    _out: dict[str, _Out] = field(default_factory=dict)
    _seen: dict[Key, _Seen] = field(default_factory=dict)
    _heeded: dict[Key, tuple[str, int]] = field(default_factory=dict)
    _mine: dict[Key, _Seen] = field(default_factory=dict)
    _back_at: dict[str, float] = field(default_factory=dict)
    _polled_at: float = -math.inf

    # -- what happens in one's own pool

    def opened(
        self, member: str, for_s: float | None, kind: FailureKind | None, heard: bool, now: float
    ) -> list[Effect]:
        """A breaker has opened; for no time that is known: by hand, which is nobody else's."""
        if for_s is None:
            self._forget(member)
            return []
        until = now + for_s
        if heard:
            # It was said by `_heed`, which knows already.
            out = self._out.setdefault(member, _Out(until, False, kind, now))
            out.until, out.trying = max(out.until, until), False
            return []
        out = self._out[member] = _Out(until, True, kind, now)
        known = self._said_by_others(member, now)
        if known is not None:  # somebody was quicker: it tries first
            self._heeded[Topic.BREAKER, member] = (known.word.by, known.word.number)
            return self._believe(member, known, now)
        out.look_soon(now)
        return self._publish(member, out, now) or [LookAtMembers()]

    def half_opened(self, member: str, now: float) -> list[Effect]:
        """A breaker lets trials through."""
        out = self._out.get(member)
        if out is None:
            return []
        out.trying = True
        out.look_soon(now)
        return []

    def closed(self, member: str, heard: bool, now: float) -> list[Effect]:
        """A breaker has closed."""
        out = self._out.get(member)
        known = self._alive((Topic.BREAKER, member), now)
        self._forget(member)
        self._back_at[member] = now
        if heard:
            return []
        if (out is not None and out.said) or (known and known.word.said is not Said.CLOSED):
            return [self._put(member, Said.CLOSED, CLOSED_S, now)]
        return []

    def let_go(self, member: str) -> None:
        """A breaker is held by hand: nothing is shared of it."""
        self._forget(member)

    def rested(self, member: str, for_s: float, kind: FailureKind, now: float) -> list[Effect]:
        """A member has asked to be left alone. That it lacks what one request has asked for is no
        news for others.
        """
        if kind is FailureKind.NOT_FOUND or for_s <= 0:
            return []
        known = self._alive((Topic.REST, member), now)
        if known is not None and known.until > now + for_s - _SLACK_S:
            return []
        return [self._put(member, Said.COOLING, for_s, now, kind, Topic.REST)]

    def members(self, looked: Mapping[str, Looked], now: float) -> list[Effect]:
        """How the members are."""
        effects: list[Effect] = []
        for member, out in self._out.items():
            if out.trying:
                out.look_again(now)
                # What the others do not know of is nothing to them; see `_publish`.
                busy = member in looked and looked[member].busy
                if out.said and busy and now >= out.renew_at:
                    out.renew_at = now + TRYING_S / 2
                    effects.append(self._put(member, Said.TRYING, TRYING_S, now))
            elif out.found and not out.said:
                out.look_again(now)
                witnessed = any(self._is_witness(*each, out.since) for each in looked.items())
                effects += self._publish(member, out, now, witnessed)
        return effects

    def _publish(self, member: str, out: _Out, now: float, witnessed: bool = False) -> list[Effect]:
        """Tell the others of a fault, once it is certain that it is not one's own network: another
        member has answered since. A key that was refused has come from the member itself.
        """
        refused = out.kind is not None and out.kind.opens_at_once
        if out.until <= now or not (refused or witnessed):
            return []
        out.said = True
        return [self._put(member, Said.OPEN, out.until - now, now, out.kind)]

    def _is_witness(self, member: str, looked: Looked, since: float) -> bool:
        """Whether a member shows that the network has been there: it has answered since, and was
        well all the while. One that is out is none, nor one that was.
        """
        answered_at, failed_at, _ = looked
        if answered_at is None or answered_at < since or member in self._out:
            return False
        well = failed_at is None or failed_at < since - UNSURE_S
        return well and self._back_at.get(member, -math.inf) <= since

    # -- what the others say

    def looked(self, lying: Mapping[str, Lying], now: float) -> list[Effect]:
        """All that lies in the store."""
        effects = self.answered(now)
        self._polled_at = now
        seen: dict[Key, _Seen] = {}
        for text, each in lying.items():
            key, word = key_of(text), Word.read(each.value)
            if key is None or word is None or not 0 < each.left_s <= LONGEST_TTL_S:
                continue
            seen[key] = _Seen(word, now + each.left_s)
            if len(seen) >= MOST_WORDS:
                break
        self._seen = seen
        for key, found in seen.items():
            identity = (found.word.by, found.word.number)
            if found.word.by == self.by or self._heeded.get(key) == identity:
                continue
            self._heeded[key] = identity
            effects += self._heed(key, found, now)
        # One's own word is not there, and nobody else's is: it was lost on the way.
        for key, mine in list(self._mine.items()):
            if mine.until <= now:
                del self._mine[key]
            elif key not in seen:
                effects.append(Put(key, mine.word, mine.until - now))
            elif seen[key].word.by != self.by:
                del self._mine[key]
        return effects

    def _heed(self, key: Key, seen: _Seen, now: float) -> list[Effect]:
        topic, member = key
        word = seen.word
        if topic is Topic.REST:
            if word.said is not Said.COOLING:
                return []
            left_s = seen.until - now
            return [Say(member, ReportedState.COOLING, left_s, word.source, word.kind)]
        if word.said is Said.CLOSED:
            known = self._out.get(member)
            self._forget(member)
            if known is None:
                return []
            return [Say(member, ReportedState.CLOSED, None, word.source)]
        if word.said not in (Said.OPEN, Said.TRYING):
            return []
        return self._believe(member, seen, now)

    def _believe(self, member: str, seen: _Seen, now: float) -> list[Effect]:
        """Have a member be out until it is one's own turn to try it."""
        jitter_s = self.rng.random() * JITTER_S
        # Who tries says so again as long as it does: its word holds for two seconds as it is.
        wait_s = TURN_S if seen.word.said is Said.OPEN else 0.0
        turn = seen.until + wait_s + jitter_s
        out = self._out.get(member)
        if out is None:
            out = self._out[member] = _Out(now, False, seen.word.kind, now)
        out.until = max(now if out.trying else out.until, turn)
        out.found = out.trying = False
        out.said = True  # they know of it
        for_s, kind = min(out.until - now, LONGEST_TTL_S), seen.word.kind
        return [Say(member, ReportedState.OPEN, for_s, seen.word.source, kind)]

    # -- time, and the store itself

    def tick(self, now: float) -> list[Effect]:
        """Let time pass."""
        due = any(out.waits_for_look and now >= out.look_at for out in self._out.values())
        return [LookAtMembers()] if due else []

    def polls(self, now: float) -> bool:
        """Whether it is time to look at the store."""
        return now >= self._polled_at + POLL_S

    def next_at(self) -> float:
        """When `tick`, or a look at the store, next has something to do."""
        looks = [out.look_at for out in self._out.values() if out.waits_for_look]
        return min([self._polled_at + POLL_S, *looks])

    def failed(self, why: str, now: float) -> list[Effect]:
        """The store does not answer."""
        self._polled_at = now
        if self.alone:
            return []
        self.alone = True
        return [Alone(why)]

    def answered(self, now: float) -> list[Effect]:
        """The store answers."""
        if not self.alone:
            return []
        self.alone = False
        return [Back()]

    # -- the books

    def _alive(self, key: Key, now: float) -> _Seen | None:
        seen = self._seen.get(key)
        return seen if seen is not None and seen.until > now else None

    def _said_by_others(self, member: str, now: float) -> _Seen | None:
        """Somebody else's word that a member is out, or is being tried, while it holds."""
        seen = self._alive((Topic.BREAKER, member), now)
        if seen is None or seen.word.by == self.by or seen.word.said is Said.CLOSED:
            return None
        return seen

    def _forget(self, member: str) -> None:
        self._out.pop(member, None)
        self._mine.pop((Topic.BREAKER, member), None)

    def _put(
        self,
        member: str,
        said: Said,
        ttl_s: float,
        now: float,
        kind: FailureKind | None = None,
        topic: Topic = Topic.BREAKER,
    ) -> Put:
        self._number += 1
        ttl_s = min(ttl_s, LONGEST_TTL_S)
        word = Word(said, self.by, self._number, self.source, kind)
        key = (topic, member)
        self._seen[key] = self._mine[key] = _Seen(word, now + ttl_s)
        return Put(key, word, ttl_s)

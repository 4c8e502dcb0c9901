"""Where processes leave word for each other: what a store is, and what is said there. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from greenroom.messages.status import FailureKind

LONGEST_TTL_S = 86_400.0
"""What is said for longer is not believed."""


class Said(StrEnum):
    """What a process says of a member."""

    OPEN = "open"
    TRYING = "trying"
    CLOSED = "closed"
    COOLING = "cooling"


class Topic(StrEnum):
    """What it is about: each has one word at a time."""

    BREAKER = "breaker"
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Word:
    """What one process says of a member, and the others go by as long as it lasts.

    Attributes:
        by: the process: unique among all that share.
        number: the how-manieth word of that process it is.
        source: the process, for people.
        kind: of the failure by which it is known.
    """

    said: Said
    by: str
    number: int
    source: str
    kind: FailureKind | None = None

    def text(self) -> str:
        """As it lies in a store: no payload, no error's text."""
        kind = None if self.kind is None else str(self.kind)
        return json.dumps([1, str(self.said), self.by, self.number, self.source, kind])

    @classmethod
    def read(cls, text: str) -> Word | None:
        """What such a text says; None where that is nothing this version knows."""
        try:
            version, said, by, number, source, kind = json.loads(text)
            if type(version) is not int or version != 1 or type(number) is not int:
                return None
            if not isinstance(by, str) or not isinstance(source, str):
                return None
            known = None if kind is None else FailureKind(kind)
            # It is to stand in a line of the log.
            shown = source[:100] if source.isprintable() else ""
            return cls(Said(said), by, number, shown, known)
        except (ValueError, TypeError, RecursionError):
            return None


Key = tuple[Topic, str]
"""What a word is about: the topic, and the member's name."""


def key_text(key: Key) -> str:
    """A key as a store has it."""
    return f"{key[0]}/{key[1]}"


def key_of(text: object) -> Key | None:
    """The key that is written so; None if it is none."""
    if not isinstance(text, str):  # somebody has put something else there
        return None
    topic, _, member = text.partition("/")
    try:
        return (Topic(topic), member) if member else None
    except ValueError:
        return None


class Lying(NamedTuple):
    """What lies in a store.

    Attributes:
        left_s: for how many seconds it still holds.
    """

    value: str
    left_s: float


class Store(Protocol):
    """A connection to the words of one pool. One thread uses it. Everything may raise, and nothing
    may take longer than a second or two; whoever has it closes it, and opens another one. It may be
    a `Ledger` as well.
    """

    def put(self, key: str, value: str, ttl_s: float) -> None:
        """Have it lie there for so many seconds from now; what lay there is gone."""

    def get(self) -> Mapping[str, Lying]:
        """All that lies there."""

    def close(self) -> None:
        """End the connection."""


class Held(NamedTuple):
    """What lies in a ledger.

    Attributes:
        text: None where nothing does.
        revision: of what lies there: another one for each text. What it is for nothing is the
            store's affair.
        now: seconds by a clock that all who share have in common, at some time during the call.
    """

    text: str | None
    revision: str
    now: float


@runtime_checkable
class Ledger(Protocol):
    """What a store is as well where processes have rate limits together: a text for each limit,
    of some 20,000 characters at most, none of which is seen by `get`. Without it each process has
    its limits for itself.
    """

    def read(self, key: str) -> Held:
        """What lies there."""

    def replace(self, key: str, text: str, revision: str, ttl_s: float) -> bool:
        """Have a text lie there in place of the one that has that revision, in one step; whether it
        did. After so many seconds it may be forgotten.
        """


class Listener(Protocol):
    """What hastens the news: without it they are found within a second. One thread uses it, but
    for `close`, which may come from any.
    """

    def wait(self, timeout_s: float) -> bool:
        """Wait until something may have changed, or the time is over; whether it may have."""

    def close(self) -> None:
        """Have `wait` end soon."""


@runtime_checkable
class SharedState(Protocol):
    """Where processes leave word: what `AgentPool.start(shared=...)` takes. It says where a store
    is, and holds no connection: those are made in the pool's own threads.
    """

    def open(self, pool: str) -> Store:
        """Connect to what is said of a pool's members."""

    def listen(self, pool: str) -> Listener:
        """Listen for news of it."""

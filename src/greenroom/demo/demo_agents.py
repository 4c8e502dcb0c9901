"""The demo's text work, the three agents that do it, and what goes wrong with two of them."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from greenroom.messages import Member

REMOTE_S, LOCAL_S, LAZY_S = 0.090, 0.045, 0.040
"""How long a call takes on average: what an agent's network or model would take."""
HANG_S = 60.0
"""A call that hangs does so until the demo is over, at most for this long."""

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Tally:
    """What an agent finds in a passage: its lines, its checksum, and how often each word occurs.

    A word is a run of characters for which `str.isalnum` holds, without regard to case.
    """

    lines: int = 0
    checksum: int = 0
    words: Counter[str] = field(default_factory=Counter)


def tally(text: str) -> Tally:
    """The reference: straight through the text, in one thread and without a pool."""
    words = Counter(word.casefold() for word in _WORD.findall(text))
    return Tally(text.count("\n") + 1, zlib.crc32(text.encode()), words)


def passages(text: str, count: int) -> list[str]:
    """Exactly `count` pieces of a text, for as many requests: lines, none of them blank.

    A short text is gone through again and again; of a long one each piece is several lines.

    Raises:
        ValueError: there is nothing but blank lines.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("there is no text in it")
    if len(lines) < count:
        return list(itertools.islice(itertools.cycle(lines), count))
    cuts = [len(lines) * i // count for i in range(count + 1)]
    return ["\n".join(lines[a:b]) for a, b in itertools.pairwise(cuts)]


class Mode(Enum):
    """How new calls of an agent go."""

    WELL = "they work; those that hang are stuck, like a dead connection's"
    FAILING = "each raises ConnectionError"
    HANGING = "none comes back"


class Switch:
    """What the demo turns to make an agent fail or hang, and to mend it."""

    def __init__(self) -> None:
        self.mode = Mode.WELL
        self._over = threading.Event()

    def end(self) -> None:
        """The demo is over: let go of whoever hangs."""
        self.mode = Mode.WELL
        self._over.set()

    def pass_through(self) -> None:
        """What a call of the agent meets, in its thread."""
        if self.mode is Mode.FAILING:
            raise ConnectionError("connection refused")
        if self.mode is Mode.HANGING:
            self._over.wait(HANG_S)


Pace = Callable[[float], float]
"""How long a call takes that takes so many seconds on average."""


def remote_agent(pace: Pace) -> Callable[[str], object]:
    """A coroutine, as a client of a web service would be: it finds words with an expression."""

    async def count_words(passage: str) -> Tally:
        await asyncio.sleep(pace(REMOTE_S))
        words = Counter(match.group().casefold() for match in _WORD.finditer(passage))
        return Tally(passage.count("\n") + 1, zlib.crc32(passage.encode()), words)

    return count_words


def local_agent(pace: Pace, switch: Switch) -> Callable[[str], Tally]:
    """A blocking function, as a local program would be: it goes from character to character."""

    def count_words(passage: str) -> Tally:
        switch.pass_through()
        time.sleep(pace(LOCAL_S))
        runs = itertools.groupby(passage, str.isalnum)
        words = Counter("".join(run).casefold() for is_word, run in runs if is_word)
        return Tally(len(passage.split("\n")), zlib.crc32(passage.encode()), words)

    return count_words


@dataclass(eq=False, repr=False)
class WordCounter:
    """An object that is costly to make, has to be closed, and can say cheaply whether it works."""

    _pace: Pace
    _switch: Switch
    closed: bool = False

    def run(self, passage: str) -> Tally:
        """Count the words: whatever is in none becomes a blank, then the text is split."""
        self._switch.pass_through()
        time.sleep(self._pace(LAZY_S))
        words = Counter(word.casefold() for word in passage.translate(_BLANKS).split())
        return Tally(1 + sum(c == "\n" for c in passage), zlib.crc32(passage.encode()), words)

    def ping(self) -> bool:
        """The probe: whether it would answer."""
        self._switch.pass_through()
        return not self.closed

    def close(self) -> None:
        """Nothing may be asked of it any more."""
        self.closed = True


class _Blanks(dict[int, int]):
    """A table for `str.translate` that learns which characters to blank out."""

    def __missing__(self, code: int) -> int:
        self[code] = code if chr(code).isalnum() else ord(" ")
        return self[code]


_BLANKS = _Blanks()

KINDS = {"remote": "coroutine", "local": "blocking function", "lazy": "object, made on first use"}
"""What each member of the crew is, for the table at the end."""


def crew(seed: int, switches: dict[str, Switch]) -> Sequence[Member]:
    """The three members; `switches` has one for `local` and one for `lazy`."""
    rng = random.Random(seed)

    def pace(seconds: float) -> float:
        return seconds * rng.uniform(0.7, 1.3)

    def make_counter() -> WordCounter:
        return WordCounter(pace, switches["lazy"])

    return (
        Member("remote", remote_agent(pace), max_concurrency=20),
        Member("local", local_agent(pace, switches["local"]), max_concurrency=3),
        Member("lazy", factory=make_counter, probe=WordCounter.ping, max_concurrency=3),
    )

"""What is said within one process only: messages that hold the very object they are about."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.runtime.pool_actor import JoinableRef


@dataclass(frozen=True, slots=True)
class Attach:
    """The first message to a router: who supervises its members."""

    supervisor: JoinableRef


class Answered(NamedTuple):
    """The member's word to the router that an attempt has answered its request already.

    It takes the place of a `Succeeded` where nothing hangs on when the router reads it, and nobody
    reads it but the router of the same process: it names the attempt itself.

    (A tuple: there is one for every request, and `word_of` makes it without a call of Python's.)

    Attributes:
        attempt: the router's own, as it stands in the claim: nothing to be looked at.
        elapsed_s: how long it took, in seconds.
    """

    attempt: Any
    elapsed_s: float


word_of: Callable[[tuple[Any, float]], Answered] = functools.partial(tuple.__new__, Answered)
"""Made of its two attributes."""


@dataclass(slots=True, eq=False)
class Collecting:
    """The member's word to the router, of the same process, that chunks are being collected for an
    ask whose agent may not keep quiet for as long as it likes.
    """

    member: str
    incarnation: int
    request_id: str
    attempt: int
    life_signs: LifeSigns

"""Ordered failover over members whose agents are made on demand: who is in charge, and which
failure was that of a creation.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import ClassVar, Protocol

from greenroom.actors.strategies import Candidate, Failover, PickContext
from greenroom.messages.config import Classifier
from greenroom.messages.status import FailureKind


class Ring(Failover):
    """The built-in strategy, which moves on when an agent cannot be created, too.

    That is no failed run, so the router does not record it.

    There is no way back: whoever is in charge stays so, and nobody is made without need.

    Attributes:
        lost: whose creation has failed; from any thread.
    """

    one_at_a_time: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(return_after_s=None)
        self.lost: deque[str] = deque()

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        # Taken over here, in the router's turn: the agents are made elsewhere.
        while self.lost:
            self.record(self.lost.popleft(), False)
        return super().pick(candidates, context, rng)


class Creating(Protocol):
    """Makes the agent of a member.

    Attributes:
        create_error: what the last creation raised; None when it succeeded.
    """

    create_error: BaseException | None


def creations_told_apart(agents: Sequence[Creating], custom: Classifier | None) -> Classifier:
    """The classifier of a pool of them: a creation that fails is no failed run."""

    def kind_of(error: BaseException) -> FailureKind | None:
        # By identity: a creator may raise what an agent raises as well, a ConnectionError, say.
        if any(error is agent.create_error for agent in agents):
            return FailureKind.CREATE_FAILED
        return custom(error) if custom is not None else None

    return kind_of

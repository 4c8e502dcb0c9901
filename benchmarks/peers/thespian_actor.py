"""A Thespian actor in its usual system base, `multiprocTCPBase`: a process for each actor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from benchmarks.measure import Ask
from benchmarks.peers.base import Peer

_thespian: Any = import_module("thespian.actors")
ANSWER_LIMIT_S = 10.0


class Echo(_thespian.Actor):  # type: ignore[misc]
    """Answers with what it was asked."""

    def receiveMessage(self, message: Any, sender: Any) -> None:
        if isinstance(message, int):
            self.send(sender, message)


class ThespianActor(Peer):
    """`ask` of the actor system."""

    slow = True

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        logging.getLogger().addHandler(logging.NullHandler())
        system = _thespian.ActorSystem("multiprocTCPBase")
        try:
            actor = system.createActor(Echo)
            yield lambda i: system.ask(actor, i, ANSWER_LIMIT_S)
        finally:
            system.shutdown()

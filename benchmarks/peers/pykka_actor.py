"""The bare Pykka actor: `ask` with nothing around it. The floor under every pool of actors.

It has one actor and no choice to make. Failover is what a user writes by hand: ask the first actor,
catch its error, ask the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pykka

from benchmarks.measure import Ask
from benchmarks.model import Scale
from benchmarks.peers.base import Peer, counted


class Echo(pykka.ThreadingActor):
    """Answers with what it was asked."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


class Down(pykka.ThreadingActor):
    """Fails every time."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        raise ConnectionError("connection refused")


class Listener(pykka.ThreadingActor):
    """Lets messages pass, and sets the event that comes last."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> None:
        if isinstance(message, threading.Event):
            message.set()


class PykkaActor(Peer):
    """One actor, or some without a router."""

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        first: Any = Down.start() if failing else Echo.start()
        actors = [first, *(Echo.start() for _ in range(members - 1 if failing else 0))]
        try:
            if failing:
                yield lambda i: counted(iter(range(members)), lambda n: actors[n].ask(i))
            else:
                yield first.ask
        finally:
            for actor in actors:
                actor.stop()

    @contextmanager
    def pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        actor = Echo.start()
        try:
            yield lambda i: actor.ask(i, block=False), lambda future: future.get()
        finally:
            actor.stop()

    @contextmanager
    def tells(self) -> Iterator[Callable[[int], None]]:
        actor = Listener.start()

        def send(times: int) -> None:
            done = threading.Event()
            for i in range(times - 1):
                actor.tell(i)
            actor.tell(done)  # in order, so the others have been handled by then
            done.wait()

        try:
            yield send
        finally:
            actor.stop()

    def start_and_stop(self) -> Callable[[], None]:
        """Five of them: as many as a pool of three members has actors."""

        def five() -> None:
            actors = [Echo.start() for _ in range(5)]
            for actor in actors:
                actor.stop()

        return five

    @contextmanager
    def idle(self, members: int) -> Iterator[Any]:
        actors = [Echo.start() for _ in range(members)]
        try:
            yield actors
        finally:
            for actor in actors:
                actor.stop()

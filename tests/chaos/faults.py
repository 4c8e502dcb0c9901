"""What is done to a pool besides sending: the plan's faults, carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pykka

from chaos.company import CORE, GUESTS, NAMES, Company, factory_mode
from chaos.ledger import Ledger
from chaos.stage import PROBE_MODES, Stage
from chaos.steps import Do
from chaos.weather import Fault
from greenroom import (
    AddMember,
    DisableBreaker,
    ForceOpen,
    GetStats,
    Member,
    MemberExistsError,
    PoolFuture,
    PoolRef,
    PoolStoppedError,
    RemoveMember,
    ResetAll,
    ResetMember,
    Subscribe,
    UnknownMemberError,
)
from greenroom.actors.member.agent_actor import AgentActor

_MAY_SAY = (MemberExistsError, UnknownMemberError, PoolStoppedError)
"""What a command may be answered with besides success: members come and go."""


class Faults:
    """Does what the plan says, and keeps the answers to commands until somebody looks at them.

    Attributes:
        inner: the pools that are members.
    """

    def __init__(self, pool: PoolRef, stage: Stage, ledger: Ledger, nested: bool) -> None:
        self._pool = pool
        self._stage = stage
        self._ledger = ledger
        self._company = Company(stage, nested)
        self.inner = self._company.inner
        self._commands: list[tuple[Any, PoolFuture[Any]]] = []
        self._leaving: list[Callable[[], None]] = []
        self._subscribers: list[PoolFuture[Any]] = []

    def member(self, name: str) -> Member:
        """A member of the company."""
        return self._company.member(name)

    def has_an_actor(self, name: str) -> bool:
        """Whether anybody stands behind the name."""
        return any(True for _ in self._actors(name))

    def do(self, step: Do) -> None:
        """One fault."""
        stage, number = self._stage, step.target
        stage.count(f"fault: {step.fault}")
        match step.fault:
            case Fault.TICK | Fault.JUMP:
                stage.clock.advance(step.amount)
            case Fault.WALL:
                stage.clock.set_wall(step.amount)
            case Fault.KILL:
                self._kill(NAMES[number % len(NAMES)])
                self._kill_inner(number)
            case Fault.FACTORY:
                stage.factory_mode = factory_mode(number)
            case Fault.PROBE:
                stage.probe_mode = PROBE_MODES[number % len(PROBE_MODES)]
            case Fault.SUBSCRIBE:
                self._subscribe(number)
            case Fault.LEAVE:
                self._leave()
            case Fault.NO_THREADS:
                stage.machine.threads = False
            case Fault.NO_DESCRIPTORS:
                stage.machine.descriptors = False
            case Fault.MENDED:
                stage.machine.mend()
            case Fault.PAUSE:
                pause = getattr(stage.clock, "pause", None)
                if pause is not None:
                    pause(step.amount)
            case Fault.LET_GO:
                stage.let_go(1 + number % 5)
            case _:
                self.command(self._command(step.fault, number))

    def command(self, message: Any) -> None:
        """Send a command; `all_answered` says when all are answered."""
        self._commands.append((message, self._pool.ask(message, block=False)))
        if len(self._commands) > 500:
            self._commands = [each for each in self._commands if not each[1].done()]

    def all_answered(self) -> bool:
        """Whether no command waits for its answer."""
        return all(future.done() for _, future in self._commands)

    def wrong_answers(self) -> Iterator[str]:
        """Commands that were answered with what they must not be, all others are forgotten."""
        commands, self._commands = self._commands, []
        for message, future in commands:
            try:
                future.get(timeout=0)
            except _MAY_SAY:
                pass
            except Exception as error:
                yield f"a {type(message).__name__} was answered with {error!r}"

    def listeners_leave(self) -> None:
        """No subscriber is left."""
        while self._subscribers:
            self._leave()

    def _command(self, fault: Fault, number: int) -> Any:
        name = NAMES[number % len(NAMES)]
        match fault:
            case Fault.ADD:
                absent = GUESTS if number % 2 else CORE
                return AddMember(self.member(absent[number % len(absent)]))
            case Fault.REMOVE:
                return RemoveMember(GUESTS[number % len(GUESTS)] if number % 3 else name)
            case Fault.FORCE_OPEN:
                return ForceOpen(name)
            case Fault.DISABLE:
                return DisableBreaker(name)
            case Fault.RESET:
                return ResetMember(name)
            case Fault.RESET_ALL:
                return ResetAll()
            case _:
                return GetStats()

    def _kill(self, name: str) -> None:
        """End the member's actor behind its supervisor's back."""
        for ref in self._actors(name):
            self._ledger.kills += 1
            self._stage.count("member actor killed while it lived")
            ref.stop(block=False)

    def _kill_inner(self, number: int) -> None:
        """End the actor of a member of an inner pool."""
        for pool in self.inner.running():
            for ref in self._actors(("first", "second")[number % 2], pool.name):
                self._stage.count("member actor of an inner pool killed")
                ref.stop(block=False)

    def _actors(self, name: str, pool: str | None = None) -> Iterator[pykka.ActorRef[Any]]:
        """The actors behind the name that live: none, when it has been given up."""
        for ref in pykka.ActorRegistry.get_by_class(AgentActor):
            actor: Any = getattr(ref, "_actor", None)
            mine = actor is not None and actor.around.pool == (pool or self._pool.name)
            if mine and actor.member.name == name and ref.is_alive():
                yield ref

    def _subscribe(self, number: int) -> None:
        kind = (ValueError, SystemExit, KeyboardInterrupt)[number % 3]

        def subscriber(_: object) -> None:
            self._stage.count(f"subscriber raised {kind.__name__}")
            raise kind("a subscriber that raises")

        self._subscribers.append(self._pool.ask(Subscribe(subscriber), block=False))

    def _leave(self) -> None:
        if self._subscribers:
            future = self._subscribers.pop(0)
            end: Callable[[], None] = future.get(timeout=60.0)
            end()

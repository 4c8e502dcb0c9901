"""The host of one agent: makes, calls, probes and closes it, each where that agent runs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, NoReturn, TypeVar

import pykka

from greenroom.actors.executors.agent_output import (
    PLAIN,
    aclose,
    acollect,
    collect,
    flow,
    is_async_stream,
    is_awaitable,
    is_stream,
    pour,
)
from greenroom.actors.executors.call import Call, Executor, PlainCall
from greenroom.actors.executors.caller_executor import CallerExecutor
from greenroom.actors.executors.closing import CLOSE_LIMIT_S, Closing, together
from greenroom.actors.executors.entered_agent import (
    Idle,
    Stay,
    enter,
    entered_on_loop,
    fault,
)
from greenroom.actors.executors.loop_agents import LoopAgents, running_loop
from greenroom.actors.executors.loop_executor import LoopExecutor, run_on
from greenroom.actors.executors.thread_executor import Resident, ThreadExecutor
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.member import agent_methods
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.chunk_writer import ChunkWriter
from greenroom.actors.member.hosted_agent import NOBODY, HostedAgent
from greenroom.actors.runtime.call_ancestry import INSIDE
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.future import PoolFuture
from greenroom.actors.runtime.lease import Lease
from greenroom.actors.runtime.loop_blocker import ORIGIN
from greenroom.actors.runtime.loop_thread import AgentLoop, LoopThread, spare_the_log
from greenroom.actors.runtime.thread_duties import HERE, Need, is_held_up, needs_loop
from greenroom.messages.agent_shape import Method, check_agent
from greenroom.messages.call_context import OwnMember
from greenroom.messages.errors import AgentTypeError, ReentrantAskError
from greenroom.messages.execution import Ancestor, Execute
from greenroom.messages.member import CallContext, Member
from greenroom.messages.requests import Acquire, Apply
from greenroom.messages.status import CancelReason

Finish = Callable[[Call, Any, BaseException | None], None]
Late = Callable[[Call], None]
P = TypeVar("P", bound=PlainCall)

_UNMADE: Any = object()


class ProbeCall(PlainCall):
    """A call of the probe.

    Attributes:
        hosted: the agent that it looks at.
    """

    __slots__ = ("hosted",)
    hosted: HostedAgent


class AgentHost:
    """Knows where the agent lives. Async code runs on the loop, sync code in worker threads.

    Args:
        loop: the pool's loop, the app's, or that of an isolated member alone.
        pool: the urn of its router.
        context: that of the pool's start, for all that is no request: the agent outlives those.
        moved: told when the loop has ended and a call was to begin there: it goes on elsewhere.
        put_back: given a call whose agent must be made anew for that.

    Attributes:
        hosted: the agent that is called; None where it is still to be made.
        own_member: what the agent may say of its member.
        usual: where an attempt runs that neither streams nor is of a special kind: see
            `executor_for`.
    """

    def __init__(
        self,
        member: Member,
        name: str,
        clock: Clock,
        loop: AgentLoop,
        pool: str = "",
        *,
        context: Context | None = None,
        moved: Callable[[], object] = lambda: None,
        put_back: Callable[[AttemptCall], object] = lambda _: None,
        remade: Callable[[], object] = lambda: None,
    ) -> None:
        self.member = member
        self.name = name
        self.pool = pool
        self.own_member: OwnMember | None = None
        self._context = context
        self._clock = clock
        self._moved = moved
        self._put_back = put_back
        # Both from the start, since neither has a thread before its first call.
        self._loop_thread = loop
        self.loop: Executor = self._on(loop)
        self.threads = ThreadExecutor(name, clock)
        self.hosted: HostedAgent | None = None
        self.usual: Executor = self.threads
        self.callers: Executor = CallerExecutor(loop.grace_s)
        self.loop_agents: LoopAgents[HostedAgent] | None = None
        if member.factory is not None:  # a sync one, too, may make what is entered on a loop
            self.loop_agents = LoopAgents(
                name, self._made_here, context, loop.grace_s, CLOSE_LIMIT_S, _is_lost, remade
            )
        # Of those that are lost the ones that calls still use, and those that are being closed.
        self._lost: list[HostedAgent] = []
        self._closings: list[Closing] = []
        # From the entering until they are told to leave. Many threads add and take, in single
        # operations; who looks through it takes a copy.
        self._stays: list[Stay] = []
        if member.agent is not None:
            self.adopt(member.agent)

    @property
    def made(self) -> bool:
        """Whether there is an agent to call."""
        return self.hosted is not None

    @property
    def is_async(self) -> bool:
        """Whether the agent's calls run on the loop."""
        return self.hosted is not None and self.hosted.is_async

    @property
    def bound_to_loop(self) -> bool:
        """Whether what the factory has made is entered on the loop, wherever its calls run."""
        return any(stay.takes_loop for stay in list(self._stays))

    def adopt(self, agent: Any) -> None:
        """Host this agent from now on.

        Raises:
            AgentTypeError: what a factory has made is none.
        """
        if self.member.factory is not None:
            self._check(agent)
        self.hosted = HostedAgent(agent, self.member.method)  # a look at an agent may raise
        self._find_usual()

    def _check(self, agent: Any) -> None:
        made = f"agent that the factory of member {self.member.name!r} makes"
        check_agent(made, agent, self.member.method)

    def create(
        self,
        finish: Finish,
        inside: tuple[Ancestor, ...] = (),
        enter: Callable[[Stay], object] = lambda _: None,
    ) -> Call:
        """Have the factory make an agent; `finish` is told it or the error.

        Args:
            inside: the calls that wait for it: what it asks for, it asks for from inside of them.
            enter: told instead if it has made a context manager; goes on with `enter`.
        """
        factory = self.member.factory
        assert factory is not None

        def made(call: Call, agent: Any, error: BaseException | None) -> None:
            takes_loop = entered_on_loop(agent) if error is None else None
            if takes_loop is None:
                self._checked(finish, call, agent, error)
            else:
                enter(Stay(agent, takes_loop))

        call: PlainCall = self._call("create", factory, made, inside=inside)
        call.launch()
        return call

    def _checked(self, finish: Finish, call: Call, agent: Any, error: BaseException | None) -> None:
        if error is None and agent is None:
            error = TypeError(f"factory of {self.member.name!r} must return an agent, got None")
        finish(call, agent, error)

    def enter(
        self,
        stay: Stay,
        finish: Finish,
        inside: tuple[Ancestor, ...],
        left: Callable[[BaseException | None, bool], object],
    ) -> Call:
        """Enter what the factory has made, by a call that lasts until it is left again.

        Args:
            finish, inside: as for `create`.
            left: told if it ends though nobody asked, and whether its loop has ended, too.
        """
        self._stays.append(stay)
        executor = self.loop if stay.takes_loop else self.threads

        def work(call: Call) -> Any:
            ORIGIN.set((self.member.name, None))
            INSIDE.set(inside)

            def begun(agent: Any) -> None:
                self._checked(finish, call, agent, None)

            def post(action: Callable[[], object]) -> bool:
                posted = call.executor.ping(action)
                if not posted:  # nobody may ever run that task again
                    spare_the_log(call.handle)
                return posted

            return stay.on_loop(begun, post) if stay.takes_loop else self._live(stay, begun)

        def ended(call: Call, value: Any, error: BaseException | None) -> None:
            if stay.agent is None:
                self._forget(stay)
                self._checked(finish, call, value, error)
            elif not stay.asked:
                left(fault(error), call.cancelled is CancelReason.LOOP_ENDED)
            elif (failed := fault(error)) is not None:
                complain(f"closing the agent of {self.name} failed", failed)
            stay.ended()

        call = PlainCall(f"{self.name}:agent", executor, work, ended, context=self._context)
        stay.cut = functools.partial(call.cancel, CancelReason.ATTEMPT_TIMEOUT)
        call.launch()
        return call

    def _forget(self, stay: Stay) -> None:
        if stay in self._stays:
            self._stays.remove(stay)

    def _live(self, stay: Stay, begun: Callable[[Any], object]) -> None:
        """In a worker thread, which is kept for this; where one call runs at a time, it does so
        there.
        """
        duty, alone = HERE.duty, self.member.max_concurrency in (None, 1)
        thread = Resident(self.threads, self.name, self._clock) if alone else Idle()

        def ends() -> None:
            if duty is not None:
                duty.closes = self.pool

        try:
            stay.in_thread(begun, ends, thread)
        finally:
            if duty is not None:
                duty.closes = None

    def probe(
        self, finish: Callable[[ProbeCall, Any, BaseException | None], None], late: Late
    ) -> ProbeCall:
        """Have the probe check the agent; `late` is told when an abandoned one ends after all."""
        probe, hosted = self.member.probe, self.hosted
        assert probe is not None
        assert hosted is not None
        arguments = (hosted.agent,) if agent_methods.takes_argument(probe) else ()
        call: ProbeCall

        def finished(_: Call, value: Any, error: BaseException | None) -> None:
            finish(call, value, error)

        work = functools.partial(probe, *arguments)
        call = self._call("probe", work, finished, late, kind=ProbeCall)
        call.hosted = hosted
        call.launch()
        return call

    def close_agent(
        self, agent: Any = _UNMADE, then: Callable[[], None] = lambda: None
    ) -> Callable[[], object]:
        """Call the close hook, if there is one, and leave what was entered; `then` is called when
        that has ended. Returns what cuts it short.

        What belongs on a lost loop waits there for that to answer; nobody waits for it.
        """
        if agent is _UNMADE and self.hosted is not None:
            agent = self.hosted.agent
        stay = self._stay_of(agent)
        cuts: list[Callable[[], object]] = []
        if stay is not None:
            self._forget(stay)
            then = functools.partial(stay.leave, then)
            cuts.append(stay.cut)
        hook = None if agent is _UNMADE else self._close_hook(agent, stay is not None)

        def cut() -> None:
            for each in cuts:
                each()

        if hook is None:
            then()
            return cut

        waits = not (self._loop_thread.lost and agent_methods.is_async(hook))

        def finish(call: Call, __: Any, error: BaseException | None) -> None:
            if error is not None and call.cancelled is not CancelReason.ATTEMPT_TIMEOUT:
                complain(f"closing the agent of {self.name} failed", error)
            if waits:
                then()

        call: PlainCall = self._call("close", hook, finish, threads=_threads_of(stay))
        cuts.insert(0, functools.partial(call.cancel, CancelReason.ATTEMPT_TIMEOUT))
        call.launch()
        if not waits:
            then()
        return cut

    def _stay_of(self, agent: Any) -> Stay | None:
        return next((each for each in list(self._stays) if each.agent is agent), None)

    def close_agents(self, then: Callable[[], None]) -> None:
        """Close the agent, those of its callers' loops, and what is left of lost ones."""
        self.close_lost(lambda _: False)
        closings = list(self._closings)
        one = together(1 + len(closings), then)
        for each in closings:
            each.then(one)
        close = functools.partial(self.close_agent, then=one)
        if self.loop_agents is None:
            close()
        else:
            self.loop_agents.close(close)

    def lose(self) -> None:
        """The agent is gone for good: the next call has another one made. What is given to this one
        already has it to its end; see `close_lost`.
        """
        hosted, self.hosted = self.hosted, None
        if hosted is not None:
            self._lost.append(hosted)
            stay = self._stay_of(hosted.agent)
            if stay is not None and stay.thread is not None:
                stay.thread.step_back()

    def close_lost(self, is_used: Callable[[HostedAgent], bool]) -> bool:
        """Close those that are lost, and that no call uses any more; whether others are left."""
        for hosted in [each for each in self._lost if not is_used(each)]:
            self._lost.remove(hosted)
            closing = Closing(self.name, self._closes_on_loop(hosted.agent))
            self._closings.append(closing)
            closing.then(functools.partial(self._closings.remove, closing))
            closing.begin(functools.partial(self.close_agent, hosted.agent))
        of_loops = self.loop_agents is not None and self.loop_agents.close_lost(is_used)
        return of_loops or bool(self._lost)

    @property
    def agents(self) -> list[HostedAgent]:
        """Its own, and those of its callers' loops."""
        own = [] if self.hosted is None else [self.hosted]
        return own if self.loop_agents is None else [*own, *self.loop_agents.agents]

    def leave_loop(self, calls: Iterable[Call], reason: CancelReason) -> None:
        """The loop is lost: end those of the calls that are on it, without waiting for it."""
        for call in calls:
            if call.executor is self.loop:
                call.cancel(reason)

    def move_to(self, loop: AgentLoop) -> None:
        """Run what is async on that loop from now on."""
        # A new one: calls that are still on the lost loop keep the old one, and are ended by that.
        self.loop = self._on(loop)
        self._find_usual()
        self._loop_thread = loop

    def _find_usual(self) -> None:
        runner = None if self.hosted is None else self.hosted.runner
        on_loop = runner is not None and runner.is_async
        self.usual = self.loop if on_loop else self.threads

    def _on(self, loop: AgentLoop) -> Executor:
        return LoopExecutor(
            loop, self._clock, owned=self.member.isolated, elsewhere=self._run_elsewhere
        )

    def go_on_at(self, loop: AgentLoop) -> None:
        """The app's loop has ended. An agent that a factory has made may be bound to it: it is
        closed, as far as it can be, and another one made when it is next asked for.
        """
        if loop is self._loop_thread:
            return
        self.move_to(loop)
        if self.bound:
            self.let_go()

    def let_go(self) -> None:
        """Close the agent, as far as it can be; the next call has another one made."""
        hosted, self.hosted = self.hosted, None
        if hosted is not None:
            self.close_agent(hosted.agent)

    @property
    def bound(self) -> bool:
        """Whether there is an agent that may hold on to the loop on which it was made or used."""
        if self.member.factory is None or self.hosted is None:
            return False
        runner = self.hosted.runner
        in_threads = runner is not None and not runner.is_async and not self.bound_to_loop
        return not in_threads or agent_methods.is_async(self.member.factory)

    @property
    def lives_on_loop(self) -> bool:
        """Whether its calls run on the loop, as far as is known."""
        return self.is_async or agent_methods.is_async(self.member.factory)

    @property
    def closes_on_loop(self) -> bool:
        """Whether its agent is closed there."""
        if self.bound_to_loop or any(each.on_loop for each in list(self._closings)):
            return True
        agents = [*self._lost, *([] if self.hosted is None else [self.hosted])]
        return any(self._closes_on_loop(each.agent) for each in agents)

    def _closes_on_loop(self, agent: Any) -> bool:
        stay = self._stay_of(agent)
        if stay is not None and stay.takes_loop:
            return True
        hook = self._close_hook(agent, stay is not None)
        return hook is not None and agent_methods.is_async(hook)

    def _run_elsewhere(self, call: Call) -> None:
        """A call was to begin on a loop that has ended. In the turn of the member's actor, or after
        its end.
        """
        loop, moves = self._loop_thread, False
        if call.executor is self.loop:
            if loop.successor is None:  # a pool's own: it is at its end
                if call.drop():
                    call.finish(None, RuntimeError("the event loop has been closed"))
                return
            self.go_on_at(loop.successor)
            moves = True
        call.executor = self.loop  # first: all that is on the old one is ended by the next line
        if moves:
            self._moved()
        if isinstance(call, AttemptCall) and not self.made:
            self._put_back(call)
        else:
            self.loop.run(call)

    def release(self) -> None:
        """Let go of threads, and of the loop when it is the member's own."""
        self.loop.close()
        self.threads.close()

    def join(self, timeout_s: float) -> None:
        """After `release`: wait until the idle threads have ended."""
        self.loop.join(timeout_s)
        self.threads.join(timeout_s)

    def executor_for(self, message: Execute) -> Executor:
        """Where an attempt is to run."""
        work, hosted = message.work, self.hosted
        if isinstance(work, Acquire):
            return self.callers
        assert hosted is not None
        runner = hosted.streamer if message.stream else hosted.runner
        executor = self.loop if runner is not None and runner.is_async else self.threads
        if isinstance(work, Apply):
            if agent_methods.is_async(work.function):
                executor = self.loop
            elif isinstance(hosted.agent, PoolRef):
                return self.threads  # at home in any thread; its `ask` would block the loop
            elif hosted.is_client:
                executor = self.loop  # what a lambda returns is awaited there, without a thread
        if message.inside and executor is self.loop and self._is_held_up(message.inside):
            return self.threads  # not to wait for a loop that waits for it; it is told there
        return executor

    def _is_held_up(self, inside: tuple[Ancestor, ...]) -> bool:
        return is_held_up(self.pool, Need.LOOP, inside) and not self.member.isolated

    def run(self, call: AttemptCall) -> Any:
        """Runs in the executor, in a context of the call's own. What comes back from a loop is
        still to be awaited.
        """
        # Never reset: the context is the call's own, and ends with it.
        message = call.message
        ORIGIN.set((self.member.name, message.request_id))
        INSIDE.set((*message.inside, (self.pool, call.ticket)))
        # By the threads, which stay the same: the loop may have been replaced meanwhile.
        on_thread = call.executor is self.threads
        if call.writer is not None:
            return self._pour(call, call.writer) if on_thread else self._flow(call, call.writer)
        runner, work = call.hosted.runner, message.work
        if isinstance(work, Apply) or runner is None or runner.context_name is not None:
            value = self._begin(call)
        else:  # as there, without the call
            value = runner.call(work.payload)
        return self._settle(value, call) if on_thread and type(value) not in PLAIN else value

    def _begin(self, call: AttemptCall) -> Any:
        """The user's code begins here."""
        message = call.message
        work, hosted = message.work, call.hosted
        if isinstance(work, Apply):
            return work.function(hosted.agent)
        runner = hosted.streamer if message.stream else hosted.runner
        if runner is None:
            _cannot_run(hosted.agent, self.member.method)
        if runner.context_name is None:
            return runner.call(work.payload)
        return runner.run(work.payload, self._context_of(call))

    def _context_of(self, call: AttemptCall) -> CallContext:
        message = call.message
        work = message.work
        return CallContext(
            request_id=message.request_id,
            member=self.member.name,
            attempt=message.attempt,
            key=work.key,
            priority=work.priority,
            idempotent=work.idempotent,
            deadline=message.deadline,
            metadata=work.metadata,
            now=self._clock.now,
            on_side_effects=call.start_side_effects,
            on_alive=call.alive,
            on_describe=call.describe,
            on_spent=call.spend,
            on_limits=call.limits,
            own_member=self.own_member,
        )

    def lend(self, call: AttemptCall) -> PoolFuture[Any] | None:
        """Make the lease ready by which whoever asks runs the agent; returns who that is."""
        if call.writer is None:  # such a request was told, or asked for in some other way
            return None
        lease: Lease = call.handle
        call.writer.start(call)
        lease.marks, lease.context = call.writer, self._context_of(call)
        lease.inside = (self.pool, call.ticket)
        lease.agent = call.hosted.agent
        loops = self.loop_agents
        if loops is not None and (
            self.bound_to_loop or agent_methods.is_async(self.member.factory)
        ):
            lease.make = functools.partial(self._agent_here, loops, call)
        return call.asker

    async def _agent_here(self, loops: LoopAgents[HostedAgent], call: AttemptCall) -> Any:
        """The agent for a block in a task: of the loop that runs here, where a factory makes agents
        on a loop, or they are entered there, since that may bind them to it.
        """
        if self._loop_thread.loop is not running_loop():
            call.hosted = NOBODY  # what the factory raises says nothing of the member's own
            call.hosted = await loops.get()
        return call.hosted.agent

    def lent_on(self, call: Call, loop: Any) -> bool:
        """Whether it is a block that runs on that loop."""
        lease: Lease | None = call.handle if call.executor is self.callers else None
        return lease is not None and lease.loop is not None and lease.loop is loop

    @contextlib.asynccontextmanager
    async def _made_here(self) -> AsyncIterator[HostedAgent]:
        """What the factory makes, entered and left by the task that runs this, where it is so."""
        assert self.member.factory is not None
        made = await _settled(self.member.factory())
        async with contextlib.AsyncExitStack() as stack:
            agent, entered = made, False
            if entered_on_loop(made) is not None:
                agent, entered = await enter(made, stack)
            if agent is None:
                raise TypeError(f"factory of {self.member.name!r} must return an agent, got None")
            try:
                self._check(agent)
                yield HostedAgent(agent, self.member.method, of_loop=True)
            finally:
                hook = self._close_hook(agent, entered)
                if hook is not None:
                    await _settled(hook())

    def _call(
        self,
        what: str,
        function: Callable[[], Any],
        finish: Finish,
        late: Late = lambda _: None,
        inside: tuple[Ancestor, ...] = (),
        *,
        threads: Executor | None = None,
        kind: type[P] = PlainCall,  # type: ignore[assignment]
    ) -> P:
        """A call, which is still to be launched.

        Args:
            threads: where a sync function runs; None: where any does.
        """
        on_loop = agent_methods.is_async(function)
        executor = self.loop if on_loop else threads or self.threads

        def work(call: Call) -> Any:
            ORIGIN.set((self.member.name, None))
            INSIDE.set(inside)
            if on_loop:
                return function()
            duty = HERE.duty
            if duty is not None and what == "close":
                duty.closes = self.pool
            try:
                return self._settle(function(), call)
            finally:
                if duty is not None:
                    # A worker thread is kept for the next call, which closes nothing.
                    duty.closes = None

        return kind(f"{self.name}:{what}", executor, work, finish, late, self._context)

    def _settle(self, value: Any, call: Call) -> Any:
        """In a worker thread: a sync callable may have returned an awaitable all the same."""
        if type(value) in PLAIN:
            return value
        kind = type(value)
        if issubclass(kind, pykka.Future) and not issubclass(kind, PoolFuture):
            return value.get()  # Pykka's own can be awaited too, but block the loop meanwhile
        if is_awaitable(value):
            value = self._run_on(value, call)
        if not call.collects or not is_stream(value):
            return value
        call.collected = True
        if is_async_stream(value):
            closing = functools.partial(aclose, value)
            return self._run_on(acollect(value, call.hearing()), call, closing)
        return collect(value, call.hearing())

    def _pour(self, call: AttemptCall, writer: ChunkWriter) -> None:
        """In a worker thread: pass on what comes, whatever it is, wherever it must run."""
        writer.start(call)
        value = self._settle(self._begin(call), call)
        if type(value) not in PLAIN and is_async_stream(value):
            closing = functools.partial(aclose, value)
            self._run_on(flow(value, writer), call, closing)
        else:
            pour(value, writer)
        writer.flush()

    def _run_on(
        self,
        awaitable: Awaitable[Any],
        call: Call,
        closing: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> Any:
        """In a worker thread: have the loop run it.

        Raises:
            ReentrantAskError: whoever asks waits in the very thread that runs the loop.
        """
        loop = self._loop_thread
        if isinstance(loop, LoopThread) or not isinstance(call, AttemptCall):
            return run_on(loop, awaitable, call, closing)
        try:
            with needs_loop(self.pool, call.message.request_id):
                return run_on(loop, awaitable, call, closing)
        except ReentrantAskError:
            if isinstance(awaitable, Coroutine):
                awaitable.close()
            raise

    async def _flow(self, call: AttemptCall, writer: ChunkWriter) -> None:
        """On a loop: the same."""
        writer.start(call)
        await flow(self._begin(call), writer)
        writer.flush()

    def _close_hook(self, agent: Any, entered: bool) -> Callable[[], Any] | None:
        if self.member.close is not None:
            return functools.partial(self.member.close, agent)
        if self.member.factory is not None and not entered:  # else leaving it is what closes it
            for name in ("aclose", "close"):
                hook = agent_methods.method_of(agent, name)
                if hook is not None:
                    return hook
        return None


def _is_lost(hosted: HostedAgent) -> bool:
    return hosted.lost


def _threads_of(stay: Stay | None) -> Executor | None:
    """The thread that has entered an agent, where it runs calls as well."""
    thread = None if stay is None else stay.thread
    return thread if isinstance(thread, Resident) else None


async def _settled(value: Any) -> Any:
    return await value if is_awaitable(value) else value


def _cannot_run(agent: Any, method: Method) -> NoReturn:
    if method is False:
        raise AgentTypeError(
            f"agent must have a method to call, got a {type(agent).__name__} with method=False "
            "(pool.apply can use it all the same)"
        )
    wanted = (
        f"the method {method!r}"
        if method
        else f"one of {', '.join(agent_methods.METHODS)}, __call__"
    )
    raise AgentTypeError(
        f"agent must be callable or have {wanted}, got a {type(agent).__name__} "
        f"(pool.apply can use it all the same)"
    )

"""An agent that is elsewhere, as one of a pool."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from greenroom.actors.runtime.event_bus import complain
from greenroom.kinds.secrets import key_in
from greenroom.messages import _validate as check
from greenroom.messages.call_context import CallContext, OwnMember
from greenroom.messages.errors import RemoteError, RequestCancelledError
from greenroom.messages.status import FailureKind
from greenroom.remote.addresses import is_sendable, link_of
from greenroom.remote.caller_call import (
    WINDOW,
    Answer,
    AskWhether,
    CallerCall,
    Failure,
    HasStarted,
    Note,
    Over,
    loss,
)
from greenroom.remote.codec import MOST_BYTES, Codec, FormatName, carried, codec_for
from greenroom.remote.frames import PROTOCOL, Call, Cancel, Chunk, Credit, Go, Noted, Pong
from greenroom.remote.links import CallLink, EngineAway, Link, WorkerGone, WorkerLink

AWAY_S = 30.0
"""How long a member is said to be unreachable, each time that what carries its calls is found to be
away; it is said at once when that is back."""
ASK_S = 2.5
"""How long a worker has to say how it is."""


class RemoteAgent:
    """An agent in another process or on another host, behind `greenroom worker`: an async agent of
    a pool like any other. `docs/workers.md` says what it takes and what dies with what.

        Member("gpu", factory=lambda: RemoteAgent("http://10.0.0.7:8700", key_env="WORKER_KEY"))

    Payloads and answers are what the format can carry; with JSON that is text, finite numbers,
    bool, None, lists and dicts with names. The answer of a call is the agent's own, and so is its
    error, as a `RemoteError` of the same kind. What is cancelled here is cancelled there. Nothing
    is tried twice by itself: that is the pool's affair.

    It connects with its first call, once for each event loop that calls it. What a factory has made
    is closed at the end; one that was handed over ready wants `close=RemoteAgent.aclose`.
    `probe=RemoteAgent.can_serve` has the worker asked how it is.

    Args:
        url: `http://host:port`, `https://host:port`; `nats://host:port/subject`, `tls://...`.
        key: what the worker wants to see, of an HTTP worker.
        key_env: the environment variable that holds it, in its place.
        format: "json", or "msgpack" where both ends have it (`pip install 'greenroom[msgpack]'`).
        ca_file: the certificates (PEM) that the worker's is to be of; None: those of the system.
        max_frame_bytes: the longest payload, answer or chunk.
        credentials: of a NATS server: the path of a `.creds` file.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        ModuleNotFoundError: what carries calls of that kind is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        key_env: str | None = None,
        format: FormatName = "json",
        ca_file: str | os.PathLike[str] | None = None,
        max_frame_bytes: int = MOST_BYTES,
        credentials: str | os.PathLike[str] | None = None,
    ) -> None:
        check.text("url", url)
        check.whole("max_frame_bytes", max_frame_bytes, minimum=1024)
        codec = codec_for(format, max_frame_bytes)
        link = link_of(
            url,
            codec,
            key=_key_of(key, key_env),
            ca_file=ca_file,
            credentials=credentials,
        )
        self._set(link, codec)

    def _set(self, link: Link, codec: Codec) -> None:
        self._link = link
        self._codec = codec
        self._shown = link.shown
        self._ways: WeakKeyDictionary[asyncio.AbstractEventLoop, _Way] = WeakKeyDictionary()
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        # Added and taken in single operations: pools of several loops may have it as a member.
        self._members: set[OwnMember] = set()

    @classmethod
    def over(cls, link: Link, codec: Codec) -> RemoteAgent:
        """One whose calls go that way."""
        made = cls.__new__(cls)
        made._set(link, codec)
        return made

    async def arun(self, payload: Any, context: CallContext | None = None) -> Any:
        """The answer of the agent elsewhere.

        Raises:
            RemoteError: it has failed there, or nobody is there.
            PayloadError: the payload is not what the format can carry.
        """
        way = self._way()
        call = self._call(payload, context, wants_stream=False)
        course = CallerCall(self._shown, idempotent=call.idempotent)
        try:
            link = await way.link.open(call)
        except (WorkerGone, EngineAway) as gone:
            raise self._lost(gone, way, course) from None
        try:
            while True:
                try:
                    frame = await link.receive()
                except (WorkerGone, EngineAway) as gone:
                    raise self._lost(gone, way, course) from None
                step = course.hear(frame)
                if type(step) is Answer:
                    way.worked(context)
                    return step.value
                await self._carry_out(step, way, link, call, context)
        finally:
            await link.close()

    async def astream(self, payload: Any, context: CallContext | None = None) -> AsyncIterator[Any]:
        """The same chunk by chunk. Whoever leaves it ends the call at the worker."""
        way = self._way()
        call = self._call(payload, context, wants_stream=True)
        course = CallerCall(self._shown, wants_stream=True, idempotent=call.idempotent)
        try:
            link = await way.link.open(call)
        except (WorkerGone, EngineAway) as gone:
            raise self._lost(gone, way, course) from None
        try:
            while True:
                try:
                    frame = await link.receive()
                except (WorkerGone, EngineAway) as gone:
                    raise self._lost(gone, way, course) from None
                if type(frame) is Chunk and course.continues(frame):
                    yield frame.value
                    if more := course.taken():
                        try:
                            await link.send(Credit(call.id, more))
                        except (WorkerGone, EngineAway) as gone:
                            raise self._lost(gone, way, course) from None
                    continue
                step = course.hear(frame)
                if type(step) is Over:
                    way.worked(context)
                    return
                elif type(step) is Answer:
                    way.worked(context)
                    yield step.value
                    return
                else:
                    await self._carry_out(step, way, link, call, context)
        finally:
            await link.close()

    async def ask(self, timeout_s: float = ASK_S) -> Pong:
        """How the worker is: what it serves, how many calls it takes, how many it has.

        Raises:
            RemoteError: it does not say.
        """
        check.number("timeout_s", timeout_s, above=True)
        way = self._way()
        try:
            pong = await way.link.ask(timeout_s)
        except (WorkerGone, EngineAway) as gone:
            raise self._lost(gone, way) from None
        if pong.protocol != PROTOCOL:
            text = f"{self._shown}: the worker speaks protocol {pong.protocol}, not {PROTOCOL}"
            raise RemoteError(text, kind=FailureKind.UNAVAILABLE, started=False)
        way.heard(pong)
        return pong

    async def can_serve(self) -> bool:
        """Whether the worker takes calls: a probe.

        Raises:
            RemoteError: it does not say.
        """
        return not (await self.ask()).draining

    async def aclose(self) -> None:
        """Close the connection of the loop that runs here."""
        way = self._ways.pop(asyncio.get_running_loop(), None)
        if way is not None:
            await way.close()

    def __repr__(self) -> str:
        return f"<RemoteAgent {self._shown}>"

    # -- within

    def _way(self) -> _Way:
        loop = asyncio.get_running_loop()
        way = self._ways.get(loop)
        if way is None:
            way = self._ways[loop] = _Way(self)
        return way

    def _call(self, payload: Any, context: CallContext | None, *, wants_stream: bool) -> Call:
        id = f"{self._prefix}-{next(self._numbers)}"
        credit = WINDOW if wants_stream else 0
        if context is None:
            return Call(id, payload, wants_stream, credit=credit, carrier=_carrier())
        metadata, member = context.metadata, context.own_member
        if member is not None and member not in self._members:
            self._members.add(member)
        return Call(
            id,
            payload,
            wants_stream,
            context.remaining_s,
            context.idempotent,
            credit,
            context.request_id,
            context.attempt,
            context.key,
            context.priority,
            carried(metadata, self._codec) if metadata else NOTHING,
            _carrier(),
        )

    def _lost(
        self, gone: WorkerGone | EngineAway, way: _Way, course: CallerCall | None = None
    ) -> RemoteError:
        """What it means for the pool that the way is broken."""
        if isinstance(gone, EngineAway):
            if way.is_away:  # who hears of it late may hear of it when it is back
                self._say_away(True)
        else:
            way.lost()
        return loss(gone, course is None or course.may_have_begun)

    async def _carry_out(
        self, step: Any, way: _Way, link: CallLink, call: Call, context: CallContext | None
    ) -> None:
        if type(step) is Failure:
            if step.error.kind is FailureKind.RATE_LIMITED and not step.error.started:
                way.stale = True  # its capacity may be another one by now
            raise step.error
        try:
            match step:
                case AskWhether(effects):
                    if context is not None:
                        context.started_side_effects() if effects else context.alive()
                    try:
                        await link.send(Go(call.id))
                    except (WorkerGone, EngineAway) as gone:
                        raise self._lost(gone, way) from None
                case HasStarted():
                    if context is not None:
                        context.started_side_effects()
                case Note(noted) if context is not None:
                    _note(noted, context)
        except RequestCancelledError:
            with contextlib.suppress(WorkerGone, EngineAway):
                await link.send(Cancel(call.id))
            raise

    def _say_away(self, away: bool) -> None:
        """Have the pools know whether what carries the calls is away."""
        for member in list(self._members):
            for_s = AWAY_S if away else 0.0
            if not member.report("unreachable", for_s=for_s, source=self._shown[:200]):
                self._members.discard(member)


class _Way:
    """The way to the worker of one event loop, and what is known of the worker there.

    Attributes:
        stale: whether the worker is to be asked how many calls it takes.
        is_away: whether what carries the calls is.
    """

    def __init__(self, agent: RemoteAgent) -> None:
        self._agent = agent
        self.is_away = False
        self.link: WorkerLink = agent._link.connect(on_away=self._hear)
        self.stale = True
        self._capacity: int | None = None
        self._told: set[OwnMember] = set()
        self._asking: asyncio.Task[None] | None = None

    def _hear(self, away: bool) -> None:
        self.is_away = away
        self._agent._say_away(away)

    def worked(self, context: CallContext | None) -> None:
        """A call has ended well: the worker is there, and whoever calls may want to know more."""
        member = None if context is None else context.own_member
        if member is None:
            return
        if member not in self._told:
            self._told.add(member)
            if self._capacity is not None:
                member.takes(self._capacity)
        if self.stale:
            self.stale = False
            self._asking = asyncio.get_running_loop().create_task(self._ask())

    def lost(self) -> None:
        """The worker is gone: who is there next may take another number of calls."""
        self.stale = True

    def heard(self, pong: Pong) -> None:
        """It takes so many calls."""
        if pong.capacity < 1 or pong.capacity == self._capacity:
            return
        self._capacity = pong.capacity
        for member in list(self._told):
            if not member.takes(pong.capacity):
                self._told.discard(member)

    async def _ask(self) -> None:
        try:
            self.heard(await self.link.ask(ASK_S))
        except (WorkerGone, EngineAway):
            self.stale = True
        except Exception as error:
            complain("a worker could not be asked how many calls it takes", error)

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self.link.close()


def remote(
    *,
    url: str,
    key_env: str | None = None,
    format: FormatName = "json",
    ca_file: str | None = None,
    max_frame_bytes: int = MOST_BYTES,
    credentials: str | None = None,
) -> RemoteAgent:
    """A `RemoteAgent` of a pool's file; of the kind `remote`. A key comes from the environment."""
    return RemoteAgent(
        url,
        key_env=key_env,
        format=format,
        ca_file=ca_file,
        max_frame_bytes=max_frame_bytes,
        credentials=credentials,
    )


def _note(noted: Noted, context: CallContext) -> None:
    if noted.alive:
        context.alive()
    if noted.described:
        context.describe(**noted.described)
    if noted.spent:
        context.spent(**noted.spent)
    for each in noted.limits:
        with contextlib.suppress(TypeError, ValueError):  # of somebody else's worker
            context.limits(**each)


def _carrier() -> Mapping[str, str]:
    """What tracing has to carry along, where the app has any."""
    otel = sys.modules.get("opentelemetry.trace")
    if otel is None or not otel.get_current_span().get_span_context().is_valid:
        return NOTHING
    from opentelemetry import propagate as propagation

    carrier: dict[str, str] = {}
    propagation.inject(carrier)
    return carrier


NOTHING: Mapping[str, Any] = {}
"""A plain dict: it is compared with what is left out of a frame."""


def _key_of(key: object, key_env: str | None) -> object:
    """The key, not looked at yet; what is missing is told by the name of its variable."""
    if key is not None and key_env is not None:
        raise ValueError("key and key_env must not be given together: they are one")
    if key_env is not None:
        check.text("key_env", key_env)
        found = key_in("key_env", key_env)
        if not is_sendable(found):
            raise ValueError(f"key_env must name a variable of printable ASCII, {key_env} is not")
        return found
    return key

"""Whose code runs on an event loop at this moment, found out from another thread."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from contextvars import Context, ContextVar
from dataclasses import dataclass
from types import CodeType, FrameType

from greenroom.actors.runtime.loop_thread import AgentLoop

ORIGIN: ContextVar[tuple[str, str | None] | None] = ContextVar("greenroom_origin", default=None)
"""For whom the code runs: a member, and the id of the request if it is for one.

It is set where a call becomes a task, and goes with the context: to the tasks and the callbacks
that the agent starts itself, which no list of calls would tell anything about.
"""

_RUNS_HANDLE: CodeType = asyncio.Handle._run.__code__
_PATHS = sysconfig.get_paths()
_NOT_THE_AGENTS = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Blocker:
    """What an event loop is busy with.

    Attributes:
        member, request_id: for whom; None where that cannot be told.
        where: the line, as `file:line in function`; empty when the loop runs nothing.
    """

    member: str | None = None
    request_id: str | None = None
    where: str = ""


NOBODY = Blocker()


def blocker_of(thread: AgentLoop) -> Blocker:
    """What runs on the loop of that thread right now. Costs the loop nothing but a moment."""
    if thread.loop is None or thread.ident is None:
        return NOBODY
    inside, handle = _cut(_frames(thread.ident), thread.loop, thread.floor)
    context = _context_of_task(thread.loop) or _context_of_handle(handle)
    origin = None if context is None else context.get(ORIGIN)
    member, request_id = origin or (None, None)
    return Blocker(member, request_id, _where(inside))


def _frames(ident: int) -> list[FrameType]:
    """The frames of a thread, the innermost first."""
    frame = sys._current_frames().get(ident)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _cut(
    frames: list[FrameType], loop: asyncio.AbstractEventLoop, floor: CodeType | None
) -> tuple[list[FrameType], FrameType | None]:
    """What runs within the callback at hand, and asyncio's frame that runs it."""
    for position, frame in enumerate(frames):
        if frame.f_code is _RUNS_HANDLE:
            return frames[:position], frame
        if frame.f_code is floor and not isinstance(loop, asyncio.BaseEventLoop):
            return frames[:position], None  # a loop in C shows no frames of its own
    return [], None


def _context_of_task(loop: asyncio.AbstractEventLoop) -> Context | None:
    """The public way, for any loop; a task shows its context since Python 3.12."""
    task = asyncio.current_task(loop)
    get_context = getattr(task, "get_context", None)
    context = None if get_context is None else get_context()
    return context if isinstance(context, Context) else None


def _context_of_handle(frame: FrameType | None) -> Context | None:
    """What is left for a callback without a task, and before Python 3.12."""
    handle = None if frame is None else frame.f_locals.get("self")
    context = getattr(handle, "_context", None)
    return context if isinstance(context, Context) else None


def _where(frames: list[FrameType]) -> str:
    """The innermost line that is no library's; where there is none such, the innermost."""
    if not frames:
        return ""
    frame = next((each for each in frames if _is_of_the_app(each)), frames[0])
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"


def _is_of_the_app(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    if path.startswith("<") or any(part in path for part in _NOT_THE_AGENTS):
        return False
    if path.startswith((_PATHS["stdlib"], _PATHS["platstdlib"])):
        return False
    module = frame.f_globals.get("__name__", "")
    return not str(module).startswith("greenroom.actors.")

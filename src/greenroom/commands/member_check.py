"""Whether each member of a pool's file works: each is made and asked by itself, in a pool of its
own, so that no other answers in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from greenroom.actors.member.agent_methods import takes_argument
from greenroom.commands.ending import run
from greenroom.courier.named_courier import courier
from greenroom.kinds.pool_file import PoolFile, PoolFileError, read_pool_file
from greenroom.kinds.secrets import without_secrets
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import (
    AllPoolMembersFailedError,
    DeadlineExceededError,
    summary,
)
from greenroom.messages.member import Member
from greenroom.messages.replies import Reply
from greenroom.messages.requests import Apply, Request
from greenroom.messages.status import FailureKind, LoadBalanceStrategy, SkipReason, StrategyName
from greenroom.pool.agent_pool import AgentPool
from greenroom.shared.named_state import shared_state

AT_A_TIME = 8
"""Members that are asked at once: each has two threads for its pool."""
TIMEOUT_S = 30.0
"""The limit where neither the arguments nor the file have one."""

NOT_MADE = "not_made"

_WORDS: dict[FailureKind | SkipReason, str] = {
    FailureKind.UNAVAILABLE: "cannot be reached, or does not serve",
    FailureKind.CRASHED: "has crashed",
    FailureKind.RATE_LIMITED: "wants fewer requests",
    FailureKind.AUTH: "refuses the key, or has been given none",
    FailureKind.QUOTA: "has no quota or credit left",
    FailureKind.NOT_FOUND: "knows no such model, or is not at this address",
    FailureKind.TOO_LARGE: "finds prompt or answer too long",
    FailureKind.CALLER: "refuses the prompt",
    FailureKind.CREATE_FAILED: "cannot be made",
    FailureKind.INTERRUPTED: "broke off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What has been found out about one member.

    Attributes:
        member: its name.
        model: the one that has answered, or as it is set; None where there is none to be told.
        elapsed_s: seconds until it answered or failed; None where it was not asked.
        kind: a `FailureKind`, or "not_made"; None where nothing is wrong.
        wrong: what is wrong, in words and without secrets; None where nothing is.
    """

    member: str
    model: str | None = None
    elapsed_s: float | None = None
    kind: str | None = None
    wrong: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether it has answered."""
        return self.kind is None


@dataclass(frozen=True, slots=True)
class Checkup:
    """How the members are asked.

    Attributes:
        prompt: for members that have no probe.
        timeout_s: seconds for each; None: the file's `request_timeout_s`, or 30.
    """

    prompt: str
    timeout_s: float | None = None


def check_file(path: Path, checkup: Checkup) -> list[Finding]:
    """Ask every member of a file, in its order.

    Raises:
        PoolFileError: the file as a whole cannot be used; of its members, the findings tell.
        KeyboardInterrupt, Terminated: whatever was asked has been cancelled.
    """
    not_made: dict[int, Finding] = {}

    def note(at: int, name: str, error: Exception) -> None:
        not_made[at] = Finding(member=name, kind=NOT_MADE, wrong=without_secrets(str(error)))

    file = read_pool_file(path, on_wrong_member=note)
    if not not_made:
        _check_whole(path, file)
    asked = iter(check_members(file.members, file.config, checkup))
    count = len(not_made) + len(file.members)
    return [not_made[at] if at in not_made else next(asked) for at in range(count)]


def check_members(members: Sequence[Member], config: PoolConfig, checkup: Checkup) -> list[Finding]:
    """Ask each of them by itself.

    Raises:
        KeyboardInterrupt, Terminated: whatever was asked has been cancelled.
    """
    limit = checkup.timeout_s or config.request_timeout_s or TIMEOUT_S
    request = Request(checkup.prompt, timeout=limit)
    return run(_ask_all(members, _lone(config), request))


def _check_whole(path: Path, file: PoolFile) -> None:
    """Start the pool with nobody at work in it: what is wrong with all of it is said."""
    stand_ins = [replace(each, agent=str, factory=None, method=None) for each in file.members]
    said = LoadBalanceStrategy.ADAPTIVE if file.strategy is None else file.strategy
    strategy = cast(StrategyName, said)  # be it none: `start` refuses it
    try:
        if file.courier is not None:  # the same of it
            courier("courier", file.courier)
        if file.shared is not None:  # not by the pool that is started here: nobody is to hear of it
            shared_state("shared", file.shared)
        AgentPool.start(stand_ins, strategy=strategy, config=file.config, name=file.name).stop()
    except (TypeError, ValueError, RuntimeError) as error:
        raise PoolFileError(f"{path}: {error}") from error


def _lone(config: PoolConfig) -> PoolConfig:
    """The file's settings for a pool of one member that is asked once."""
    return config.replace(
        max_retries=0,
        same_member_retries=0,
        hedge_after_s=None,
        request_timeout_s=None,
        deadline_s=None,
        first_chunk_timeout_s=None,
        chunk_timeout_s=None,
        when_unavailable="fail",
        # Else an agent that blocks its loop would hold up the others, and the limit.
        event_loop="uvloop" if config.event_loop == "uvloop" else "own",
    )


async def _ask_all(
    members: Sequence[Member], config: PoolConfig, request: Request[Any]
) -> list[Finding]:
    room = asyncio.Semaphore(AT_A_TIME)

    async def ask(member: Member) -> Finding:
        async with room:
            return await _ask(member, config, request)

    return await asyncio.gather(*map(ask, members))


async def _ask(member: Member, config: PoolConfig, request: Request[Any]) -> Finding:
    """What one member makes of the prompt, or of its probe."""
    told = Finding(member=member.name, model=_model_set(member))
    try:
        pool = AgentPool.start([replace(member, weight=1.0)], config=config, name=member.name)
    except (TypeError, ValueError) as error:
        return replace(told, kind=NOT_MADE, wrong=without_secrets(str(error)))
    now = asyncio.get_running_loop().time
    start = now()
    async with pool:
        try:
            message = request if member.probe is None else _probing(member.probe, request)
            reply: Reply[Any] = await pool.ask(message, block=False)
        except Exception as error:  # what an agent raises for a request at fault is its own error
            kind, wrong = _judged(error, request.timeout)
            wrong = without_secrets(wrong)
            return replace(told, elapsed_s=now() - start, kind=kind, wrong=wrong)
    told = replace(told, elapsed_s=now() - start, model=_model_of(reply) or told.model)
    if member.probe is not None and reply.value is False:
        return replace(told, kind=str(FailureKind.UNKNOWN), wrong="its probe returned False")
    return told


def _probing(probe: Callable[..., Any], request: Request[Any]) -> Apply[Any]:
    """The probe as what an agent is asked; it wants the agent, or nothing at all."""
    wants_agent = takes_argument(probe)
    return Apply(lambda agent: probe(agent) if wants_agent else probe(), timeout=request.timeout)


def _judged(error: Exception, limit: float | None) -> tuple[str, str]:
    """The kind of a failure, and what is wrong in words."""
    if isinstance(error, DeadlineExceededError):
        return str(FailureKind.TIMEOUT), f"no answer within {limit:g} s"
    kind: FailureKind | SkipReason = FailureKind.CALLER
    cause: BaseException | None = error
    if isinstance(error, AllPoolMembersFailedError) and error.errors:
        first = error.errors[0]
        kind, cause = first.kind, first.error or first
    words = _WORDS.get(kind, "does not answer as it should")
    return str(kind), f"{words}: {summary(cause)}"


@runtime_checkable
class _HasModel(Protocol):
    model: str


def _model_set(member: Member) -> str | None:
    agent = member.agent
    return agent.model if isinstance(agent, _HasModel) and isinstance(agent.model, str) else None


def _model_of(reply: Reply[Any]) -> str | None:
    model = reply.metadata.get("model")
    return model if isinstance(model, str) else None

"""Results and events of frameworks' runs that say of themselves that they have failed, and answers
whose body nobody has read. Stand-ins of the packages' dataclasses, with the fields that they have;
those of ADK and LangChain are real in `test_real_handles.py`. Behaviour 245.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import FailureKind, Member, PoolConfig, Request, answers
from greenroom.actors.reading.answer_judgement import refusal_of
from greenroom.actors.reading.stream_judge import StreamJudge


class RunStatus(enum.StrEnum):
    """agno 3.1.10."""

    completed = "COMPLETED"
    paused = "PAUSED"
    cancelled = "CANCELLED"
    error = "ERROR"


@dataclass
class RunOutput:
    """agno 3.1.10: what `arun` returns, whatever has happened."""

    run_id: str | None = "r"
    agent_id: str | None = "a"
    session_id: str | None = "s"
    content: Any = None
    messages: Any = None
    session_state: Any = None
    created_at: int = 1
    status: RunStatus = RunStatus.completed


@dataclass
class WorkflowRunOutput:
    """agno 3.1.10."""

    run_id: str | None = "r"
    workflow_id: str | None = "w"
    content: Any = None
    step_results: Any = None
    created_at: int = 1
    status: RunStatus = RunStatus.completed


@dataclass
class RunEvent:
    """agno 3.1.10: one of `arun(stream=True, stream_events=True)`."""

    event: str
    content: Any = None
    error_type: str | None = None
    tool: Any = None
    run_id: str | None = "r"
    agent_id: str = ""
    created_at: int = 1


@dataclass
class AgentResult:
    """strands-agents 1.62.0."""

    stop_reason: str
    message: Any = field(default_factory=lambda: {"role": "assistant", "content": [{"text": "x"}]})
    metrics: Any = None
    state: Any = None
    structured_output: Any = None


def botocore_class(name: str) -> Any:
    """botocore 1.44.8: an `EventStream` can only be iterated over."""

    def chunks(self: Any) -> Iterator[bytes]:
        yield b"x"

    return type(name, (), {"__module__": "botocore.eventstream", "__iter__": chunks})


BODY = botocore_class("EventStream")()
ABOUT = {"HTTPStatusCode": 200, "HTTPHeaders": {"content-type": "application/json"}}
DOWN: dict[str, Any] = {"status": RunStatus.error, "content": "down"}

FAILED: dict[str, tuple[Any, FailureKind]] = {
    "agno, a run": (RunOutput(**DOWN), FailureKind.UNAVAILABLE),
    "agno, a status in words": (
        RunOutput(status=RunStatus.error, content="Error code: 429 - slow down"),
        FailureKind.RATE_LIMITED,
    ),
    "agno, a key": (
        RunOutput(status=RunStatus.error, content="401 Unauthorized"),
        FailureKind.AUTH,
    ),
    "agno, a workflow": (WorkflowRunOutput(**DOWN), FailureKind.UNAVAILABLE),
    "agno, an event": (RunEvent("RunError", "down", "ConnectionError"), FailureKind.UNAVAILABLE),
    "agno, an event of a class": (
        RunEvent("TeamRunError", "slow down", "RateLimitError"),
        FailureKind.RATE_LIMITED,
    ),
    "agno, an event of no known class": (
        RunEvent("RunError", "down", "ModelProviderError"),
        FailureKind.UNAVAILABLE,
    ),
    "strands, a guardrail": (AgentResult("guardrail_intervened"), FailureKind.CALLER),
    "strands, a filter": (AgentResult("content_filtered"), FailureKind.CALLER),
    "boto3, a stream": ({"ResponseMetadata": ABOUT, "stream": BODY}, FailureKind.TOO_LARGE),
    "boto3, a body": ({"ResponseMetadata": ABOUT, "Body": BODY}, FailureKind.TOO_LARGE),
}
GOOD: dict[str, Any] = {
    "agno, a run": RunOutput(content="x"),
    "agno, a run that waits": RunOutput(status=RunStatus.paused),
    "agno, a run that was cancelled": RunOutput(status=RunStatus.cancelled, content="cancelled"),
    "agno, a tool that failed": RunEvent("ToolCallError", "no such city", tool=object()),
    "strands": AgentResult("end_turn"),
    "strands, a question of its own": AgentResult(
        "interrupt", {"role": "assistant", "content": []}
    ),
    "strands, its length": AgentResult("max_tokens"),
    "boto3, a body that was read": {"ResponseMetadata": ABOUT, "Body": b"x"},
    "an app's dict with a stream": {"stream": BODY},
    "an app's run": {"run_id": "r", "agent_id": "a", "status": "error", "created_at": 1},
    "an app's reason": {"stop_reason": "content_filtered", "message": "x"},
}


@pytest.mark.parametrize(("value", "kind"), FAILED.values(), ids=FAILED)
def test_a_run_that_says_it_has_failed_has(value: Any, kind: FailureKind) -> None:
    """Of the kind that its error's name or words say."""
    fault = answers.auto(value)
    assert fault is not None
    error = refusal_of(fault, value, "a", 0.0)
    assert error.kind is kind
    assert "down" not in str(error)


@pytest.mark.parametrize("value", GOOD.values(), ids=GOOD)
def test_any_other_result_is_good(value: Any) -> None:
    """Also one that waits, was cut off at its length, or is an app's own."""
    assert answers.auto(value) is None


def test_a_run_of_agnos_fails_over_before_its_first_content() -> None:
    """What has only begun does not begin the stream."""
    events = [RunEvent("RunStarted"), RunEvent("RunError", "down", "ConnectionError")]

    def agent(_: Any) -> Iterator[Any]:
        yield from events

    with pool_of(Member("a", agent), Member("b", str.upper, priority=1)) as pool:
        assert pool.stream(Request("x"), timeout=WAIT_S).collect() == ["X"]
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "X"


@pytest.mark.parametrize("event", ["RunContent", "RunCompleted", "ToolCallStarted"])
def test_events_of_agno_count_by_what_they_bring(event: str) -> None:
    """A text, or the call of a tool."""
    judge = StreamJudge(PoolConfig())
    assert judge.add(RunEvent("RunStarted"))
    assert not judge.add(RunEvent(event, "x", tool=object()))
    judge.end()
    assert judge.fault is None

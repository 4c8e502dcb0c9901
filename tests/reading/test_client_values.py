"""What clients returned for failures, as they returned it, judged without any client."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom import PoolConfig, UnsuccessfulResultError, answers
from greenroom.actors.reading.answer_judgement import refusal_of
from greenroom.actors.reading.stream_judge import StreamJudge

shapes = pytest.importorskip("helpers_shapes")

NOT_KNOWN = {
    "bedrock/200err": "boto3 leaves out a body that it does not know",
    "bedrock/200trunc": "the same",
    "litellm_gemini/st_noend": "the client makes up an end",
    "openai_agents/st_noend": "the same",
    "openai_agents/200length": "a text, and nothing of why it ends",
    "mcp/toolerr": "a tool that failed is an answer to a model; `error_flag` refuses it",
    "replicate/200empty": "None, which an agent may well answer",
    "replicate/200length": "a list of texts, and nothing of why it ends",
    "pydantic_ai_anthropic/st_noend": "the client makes up an end",
    "pydantic_ai_google/st_noend": "the same",
    "pydantic_ai_openai/st_noend": "the same",
    "pydantic_ai_anthropic/200length": "a text, and nothing of why it ends",
    "pydantic_ai_google/200length": "the same",
    "pydantic_ai_openai/200length": "the same",
}


LATE_S = 2.0
"""A date in a Retry-After is in whole seconds, and the client was called a moment earlier."""


def judged(shape: Any) -> UnsuccessfulResultError | None:
    value = shape.value()
    if not shape.stream:
        both = answers.any_of(answers.auto, answers.cut_short)
        fault: Any = both(value)
        return None if fault is None else refusal_of(fault, value, "a", shape.wall_now)
    judge = StreamJudge(PoolConfig())
    for chunk in value if isinstance(value, (list, tuple)) else [value]:
        judge.add(chunk)
        if judge.fault is not None:
            break
    judge.end()
    return None if judge.fault is None else judge.error("a", shape.wall_now)


@pytest.mark.parametrize("shape", shapes.value_shapes(), ids=lambda shape: shape.id)
def test_what_clients_returned(shape: Any) -> None:
    """A failure is of the right kind, with its wait; a whole stream is good."""
    reason = NOT_KNOWN.get(f"{shape.client}/{shape.situation}")
    if reason:
        pytest.skip(reason)
    error = judged(shape)
    if not shape.right:
        assert error is None
        return
    assert error is not None
    assert error.kind in shape.right
    if shape.retry_after_s is not None:
        assert error.retry_after_s == pytest.approx(shape.retry_after_s, abs=LATE_S)

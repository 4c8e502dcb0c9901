"""Spans of a worker, by the trace that the call brings. Behaviour 443."""

from __future__ import annotations

from typing import Any

from helpers_remote import MemoryEngine, in_a_loop
from helpers_telemetry import Telling

from greenroom import AgentPool, Member
from greenroom.remote.remote_agent import RemoteAgent
from greenroom.remote.worker import CONFIG, desk_of


@in_a_loop
async def test_b450_a_workers_spans_are_children_of_the_callers_attempt() -> None:
    """By W3C's trace context, which the call carries."""
    here, there = Telling(), Telling()
    engine = MemoryEngine()

    async def agent(payload: Any) -> Any:
        return payload

    async with AgentPool.start(
        [Member("w", agent)], config=CONFIG, name="worker", telemetry=there.setting
    ) as inner:
        await engine.listen(await desk_of(inner))
        there.exporter.clear()
        far = RemoteAgent.over(engine, engine.codec)
        async with AgentPool.start(
            [Member("far", far)], name="caller", telemetry=here.setting
        ) as pool:
            assert await pool.aexecute("x") == "x"
        await far.aclose()
    attempt = next(each for each in here.exporter.get_finished_spans() if each.parent is not None)
    request = next(
        each
        for each in there.exporter.get_finished_spans()
        if each.context.trace_id == attempt.context.trace_id and each.name.endswith("worker")
    )
    assert request.parent is not None
    assert request.parent.span_id == attempt.context.span_id

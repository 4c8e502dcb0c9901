"""What it costs that the agent sees its caller's context variables: copied against not."""

from __future__ import annotations

from benchmarks.groups.shared import one_awaiting_caller, one_caller
from benchmarks.model import Case, Comparison, Group, versus

GREENROOM = ("greenroom",)
CASES = (
    Case(
        "context.sync",
        "ask, sync agents, context copied",
        "us",
        GREENROOM,
        one_caller(lambda peer: peer.call_in_context(copied=True)),
    ),
    Case(
        "context.sync.not",
        "ask, sync agents, context not copied",
        "us",
        GREENROOM,
        one_caller(lambda peer: peer.call_in_context(copied=False)),
    ),
    Case(
        "context.async",
        "await, async agents, context copied",
        "us",
        GREENROOM,
        one_awaiting_caller(lambda peer: peer.async_call_in_context(copied=True)),
    ),
    Case(
        "context.async.not",
        "await, async agents, context not copied",
        "us",
        GREENROOM,
        one_awaiting_caller(lambda peer: peer.async_call_in_context(copied=False)),
    ),
)
COMPARISONS: tuple[Comparison, ...] = tuple(
    line
    for case in ("context.sync", "context.async")
    for line in versus(case, GREENROOM, other=f"{case}.not", at_most=1.03)
)
GROUP = Group("context", "The caller's context", CASES, COMPARISONS)

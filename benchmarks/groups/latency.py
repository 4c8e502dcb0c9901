"""One caller, instant agents: what one call costs, one after the other."""

from __future__ import annotations

from benchmarks.groups.shared import one_awaiting_caller, one_caller, one_thread
from benchmarks.model import Case, Comparison, Group, versus

ROUTER_SHARE = 1 / 30
"""A call of LiteLLM's Router does much more, hence so small a share."""
HOME_SHARE = 0.008
"""The same where an agent runs on its caller's own loop."""
ROUTERS = ("litellm", "litellm-latency")
SYNC = ("greenroom", "pykka", "bare", "threads", *ROUTERS, "langchain", "ray")
UVLOOP, OWN = "greenroom-uvloop", "greenroom-own"
ASYNC = ("greenroom", OWN, UVLOOP, "bare", "bare-uvloop", "asyncio", *ROUTERS, "ray")
CASES = (
    Case(
        "latency.sync",
        "ask, sync agents",
        "us",
        (*SYNC, "thespian"),
        one_caller(lambda peer: peer.sync_call()),
    ),
    Case(
        "latency.sync.one",
        "ask, one sync agent",
        "us",
        ("greenroom",),
        one_caller(lambda peer: peer.sync_call(members=1)),
    ),
    Case(
        "latency.sync.thread",
        "ask from a thread, sync agents",
        "us",
        ("greenroom", "pykka"),
        one_thread(lambda peer: peer.sync_call()),
    ),
    Case(
        "latency.async",
        "await, async agents",
        "us",
        (*ASYNC, "pydantic-ai", "langchain"),
        one_awaiting_caller(lambda peer: peer.async_call()),
    ),
    Case(
        "latency.async.asked",
        "ask, async agents",
        "us",
        ("greenroom", "greenroom-uvloop"),
        one_caller(lambda peer: peer.async_agent_call()),
    ),
    Case(
        "latency.sync.awaited",
        "await, sync agents",
        "us",
        ("greenroom", "greenroom-uvloop"),
        one_awaiting_caller(lambda peer: peer.sync_agent_awaited()),
    ),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("latency.sync", ("pykka",), at_most=2.0),
    *versus("latency.sync.one", ("pykka",), other="latency.sync"),
    *versus("latency.sync.thread", ("pykka",), at_most=1.9),
    *versus("latency.sync", ("pykka",), peer="bare"),
    *versus("latency.sync", ("threads",)),
    *versus("latency.sync", ROUTERS, at_most=ROUTER_SHARE),
    *versus("latency.sync", ("langchain",), at_most=1.0),
    *versus("latency.sync", ("ray", "thespian")),
    *versus("latency.async", ("pykka",), other="latency.sync", at_most=1.5),
    *versus("latency.async", ("pykka",), peer=OWN, other="latency.sync", at_most=3.5),
    *versus(
        "latency.async", ("pykka",), peer="greenroom-uvloop", other="latency.sync", at_most=2.5
    ),
    *versus("latency.async", ("pykka",), peer="bare", other="latency.sync"),
    *versus("latency.async", ("pykka",), peer="bare-uvloop", other="latency.sync"),
    *versus("latency.async", ("asyncio",)),
    *versus("latency.async", ROUTERS, at_most=HOME_SHARE),
    *versus("latency.async", ("pydantic-ai",), at_most=0.4),
    *versus("latency.async", ("langchain",), at_most=1.0),
    *versus("latency.async", ("ray",)),
    *versus("latency.async.asked", ("pykka",), other="latency.sync"),
    *versus("latency.sync.awaited", ("pykka",), other="latency.sync"),
)
GROUP = Group("latency", "One caller", CASES, COMPARISONS)

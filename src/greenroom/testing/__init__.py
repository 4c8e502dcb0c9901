"""For tests of what is built on a pool: a clock moved by hand, scripted agents, recorded events.

    clock = FakeClock()
    flaky = ScriptedAgent.failing(2, then="hello")
    with EventRecorder() as events, AgentPool.start([Member("a", flaky)], clock=clock) as pool:
        future = pool.ask(Request("hi"), block=False)
        clock.advance(events.wait_for(RetryScheduled).delay_s)

Nothing here sleeps: whatever waits is woken by what it waits for, and raises a TimeoutError that
says what was seen instead. With pytest, the fixture `greenroom_events` is an `EventRecorder`.
"""

from greenroom.testing.event_recorder import EventRecorder
from greenroom.testing.fake_clock import FakeClock
from greenroom.testing.scripted_agent import AsyncScriptedAgent, Hang, ScriptedAgent, Slow, Streamed
from greenroom.testing.scripted_errors import ScriptedHTTPError, http_error
from greenroom.testing.waits import TIMEOUT_S

__all__ = [
    "TIMEOUT_S",
    "AsyncScriptedAgent",
    "EventRecorder",
    "FakeClock",
    "Hang",
    "ScriptedAgent",
    "ScriptedHTTPError",
    "Slow",
    "Streamed",
    "http_error",
]

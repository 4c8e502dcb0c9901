"""No text of an event forges a line, steers a terminal or shows a key; `redact` has seen them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import fields
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

import greenroom
from greenroom import (
    AgentLostError,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PoolError,
    Request,
)
from greenroom.events import CATALOGUE, Event
from greenroom.messages.errors import summary
from greenroom.messages.pickling import masked_known, on_one_line
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("log_off_after")

KEYS = ("sk-1234567890", "abcdefTOKEN123", "topsecretvalue", "hunter2hunter2")
FORGED = "one\ntwo\r\x1b[2J\x9b\u2028\u202e\ud800\t"
EVIL = f"{FORGED}{KEYS[0]} Bearer {KEYS[1]} https://h/?key={KEYS[2]} https://me:{KEYS[3]}@host/"


def made_of(event: type[Event], text: str) -> Event:
    """An event with that text wherever it takes one."""
    values: dict[str, Any] = {}
    for each in fields(event):
        if each.name in ("pool", "member", "request_id"):
            values[each.name] = FORGED  # an app may call its members what it likes
        elif each.type in ("str", "str | None"):
            values[each.name] = text
        elif each.type == "tuple[str, ...]":
            values[each.name] = (text, text)
    return event(**values)


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_b388_no_text_of_an_event_does_harm(event: type[Event]) -> None:
    """Whatever it is made of, by whomever."""
    happened = made_of(event, EVIL)
    texts = [happened.describe(), str(happened), json.dumps(happened.as_dict())]
    texts += [str(value) for value in happened.as_dict().values()]
    for text in texts:
        assert text.isprintable()
        text.encode()
        assert not any(key in text for key in KEYS)
    assert made_of(event, "plain, and as it was") == made_of(event, "plain, and as it was")
    assert "plain, and as it was" in str(made_of(event, "plain, and as it was").as_dict())


def test_b388_to_do_it_again_changes_nothing() -> None:
    """A text may pass several of those who see to it."""
    once = on_one_line(masked_known(EVIL))
    assert on_one_line(masked_known(once)) == once


def test_b388_an_error_is_on_one_line_wherever_it_is_shown() -> None:
    """In the words of errors too, which are statistics, pickles, and what a caller prints."""

    class Odd(Exception):
        pass

    said = summary(Odd("a\x1b[2J\x07b\u202e"))
    assert said == r"Odd: a\x1b[2J\x07b\u202e"
    tabbed = summary(Odd(f"\t{KEYS[0]}"))
    assert KEYS[0] not in tabbed


OTHERS = {
    "pool.started": "names that were checked, and a strategy's",
    "pool.stopped": "no text",
    "pool.draining": "no text",
    "pool.drained": "no text",
    "pool.drain_timed_out": "no text",
    "pool.configured": "the app's own settings, by their repr",
    "pool.paused": "no text",
    "member.started": "no text",
    "member.draining": "no text",
    "member.stopped": "no text",
    "member.agent_remade": "no text",
    "member.terminated": "a `summary`, as all that actors end by",
    "member.restarted": "the same",
    "member.gave_up": "the same",
    "member.unreachable": "the app's own name of who says so",
    "member.reachable": "no text",
    "member.heard": "the same name",
    "shared.away": "a `summary` of what the store has raised",
    "shared.back": "no text",
    "courier.away": "a `summary` of what the engine has raised",
    "courier.back": "no text",
    "tell.failed": "members' names, kinds, names of types",
    "tell.dead": "the same",
    "attempt.started": "no text",
    "attempt.succeeded": "no text",
    "attempt.lost": "no text",
    "hedge.started": "a member's name",
    "retry.scheduled": "no text",
    "failover": "a member's name",
    "breaker.half_open": "one of two words",
    "breaker.kept": "no text",
    "breaker.spared": "no text",
    "breaker.closed": "numbers",
    "member.resting": "a kind",
    "member.rested": "no text",
    "member.queueing": "no text",
    "request.exhausted": "the pool's own errors, members' names, kinds",
    "request.rejected": "the same",
    "probe.ok": "no text",
    "health.changed": "no text",
    "loop.stalled": "a thread's name, a line of code",
    "loop.recovered": "a thread's name",
    "loop.replaced": "names",
    "loop.ended": "names",
}
"""The events that hold no words of an error of the app's, and what they hold instead."""


def test_b388_redact_has_seen_the_words_of_every_error(greenroom_events: EventRecorder) -> None:
    """Each event of the catalogue either shows what `redact` has made of an error's words, or has
    none of them.
    """
    off = greenroom.log(
        "DEBUG",
        format="json",
        sink=(sink := io.StringIO()),
        redact=lambda text: text.replace("Ann", "<a name>"),
    )
    clock = FakeClock()

    def fails(_: Any = None) -> Any:
        raise ConnectionError("Ann")

    def refuses(_: Any) -> Any:
        raise TypeError("Ann")

    def keyless(_: Any) -> Any:
        raise PermissionError("Ann")

    made: list[Any] = [AgentLostError("Ann")]

    def loses(_: Any) -> Any:
        if made:
            raise made.pop()
        return "well"

    def classify(error: BaseException) -> FailureKind | None:
        kinds: dict[type[BaseException], FailureKind] = {
            TypeError: FailureKind.CALLER,
            PermissionError: FailureKind.AUTH,
        }
        return kinds.get(type(error))

    members = [
        Member("fails", fails),
        Member("unmade", factory=fails),
        Member("refuses", refuses),
        Member("keyless", keyless),
        Member("loses", factory=lambda: loses),
        Member("probed", ScriptedAgent(["hi"]), probe=fails),
    ]
    with pool_of(*members, clock=clock, classify=classify, max_retries=0) as pool:
        pool.tell(Request("x", only="refuses"))
        for name in ("fails", "unmade", "loses", "loses", "keyless"):
            with contextlib.suppress(AllPoolMembersFailedError):
                pool.ask(Request("x", only=name), timeout=WAIT_S)
        with pytest.raises(TypeError, match="Ann"):
            pool.ask(Request("x", only="refuses"), timeout=WAIT_S)
        clock.advance(60)
        greenroom_events.wait_for("probe.failed")
        greenroom_events.wait_for("dead_letter")
        greenroom_events.wait_for("breaker.opened", "keyless")
        stats = repr(pool.stats())
    off()
    shown = {event.name for event in greenroom_events.all if "<a name>" in str(event)}
    assert shown | set(OTHERS) == {event.name for event in CATALOGUE}
    assert not shown & set(OTHERS)
    everything = stats + sink.getvalue() + "".join(map(str, greenroom_events.all))
    assert "Ann" not in everything


def test_b388_where_redact_leaves_nothing_there_is_still_a_reason(
    greenroom_events: EventRecorder,
) -> None:
    """The class of the error, and who was tried."""
    off = greenroom.log("INFO", sink=io.StringIO(), redact=lambda _: "")
    with pool_of(Member("a", ScriptedAgent.failing(9)), max_retries=0) as pool:
        with pytest.raises(PoolError):
            pool.ask(Request("x"), timeout=WAIT_S)
        event = greenroom_events.wait_for("request.exhausted")
    off()
    assert event.as_dict()["reason"].startswith("AllPoolMembersFailedError")
    (failed,) = greenroom_events.named("attempt.failed")
    assert failed.as_dict()["error"] == "ConnectionError"

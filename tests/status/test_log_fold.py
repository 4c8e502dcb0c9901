"""How pools stand by their log: the fold says of a log what the endpoint says of the pool."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from helpers_status import ANY, address_of, get

import greenroom
from greenroom import AgentPool, AllPoolMembersFailedError, Member
from greenroom.events import CATALOGUE
from greenroom.status.log_fold import _FOLDS, LAST_EVENTS, LogFold

AT = "2026-01-31T12:00:00.000Z"


def folded(*lines: dict[str, Any], now: float | None = None) -> dict[str, Any]:
    """What comes of these lines of a pool `p`."""
    fold = LogFold()
    for line in lines:
        fold.take({"ts": AT, "level": "INFO", "pool": "p"} | line)
    pools: list[dict[str, Any]] = fold.plain(now)["pools"]
    (pool,) = pools
    return pool


def started(*members: str) -> dict[str, Any]:
    return {"event": "pool.started", "members": ", ".join(members), "strategy": "adaptive"}


def test_a_log_says_what_the_endpoint_says(tmp_path: Path, log_off_after: None) -> None:
    """As far as it can know it; every figure that both have is the same."""

    def fail(_: str) -> str:
        raise ConnectionError("refused")

    path = tmp_path / "app.jsonl"
    greenroom.log("DEBUG", format="json", sink=path)
    members = [Member("bad", fail), Member("good", str.upper, priority=1)]
    with AgentPool.start(members, strategy="priority", name="p", status=ANY) as pool:
        for _ in range(7):
            pool.execute("x")
        pool.force_open("good")
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("x")
        said = get(address_of(pool), "/status.json").json()["pools"][0]
    greenroom.log(None)
    fold = LogFold()
    for line in path.read_text().splitlines():
        if json.loads(line)["event"] in ("member.stopped", "pool.stopped"):
            break
        fold.take(json.loads(line))
    (pool_said,) = fold.plain()["pools"]
    same = ("name", "strategy", "completed", "failed", "cancelled", "retries", "hedges")
    assert {key: pool_said[key] for key in same} == {key: said[key] for key in same}
    for ours, theirs in zip(pool_said["members"], said["members"], strict=True):
        for key in ("name", "status", "successes", "failures", "last_error", "incarnation"):
            assert ours[key] == theirs[key], key
    assert pool_said["members"][1]["circuit"] == "open"  # by hand: the event does not tell apart


def test_an_open_breaker_says_when_it_is_tried() -> None:
    """By the time that it is asked for; closed, it says nothing."""
    at = datetime.fromisoformat(AT).timestamp()
    opened = {"event": "breaker.opened", "member": "a", "reopens_in_s": 30.0}
    (a,) = folded(started("a"), opened, now=at + 10)["members"]
    assert (a["circuit"], a["status"], a["reopens_in_s"]) == ("open", "circuit_open", 20.0)
    pool = folded(started("a"), opened, now=at + 10)
    assert not pool["can_serve"]
    trial = {"event": "breaker.half_open", "member": "a"}
    assert folded(started("a"), opened, trial)["members"][0]["circuit"] == "half_open"
    back = {"event": "breaker.closed", "member": "a"}
    (a,) = folded(started("a"), opened, trial, back)["members"]
    assert (a["circuit"], a["reopens_in_s"]) == ("closed", None)


def test_what_is_only_observed_changes_nothing() -> None:
    """The breaker would be open, and is not."""
    opened = {"event": "breaker.opened", "member": "a", "observed": True}
    assert folded(started("a"), opened)["members"][0]["circuit"] == "closed"


def test_the_same_name_again_is_another_pool() -> None:
    """A process that was started anew goes on in the same file."""
    failed = {"event": "attempt.failed", "member": "a", "kind": "timeout", "error": "late"}
    pool = folded(started("a"), failed, {"event": "pool.stopped"}, started("b"))
    assert [each["name"] for each in pool["members"]] == ["b"]
    assert not pool["stopped"]
    assert folded(started("a"), {"event": "pool.stopped"})["stopped"]


def test_a_retry_that_pauses_and_goes_elsewhere_is_one() -> None:
    """It has two lines; one that goes elsewhere at once has one."""
    pause = {"event": "retry.scheduled", "member": "a", "request_id": "p-1", "attempt": 2}
    then = {"event": "failover", "member": "a", "to": "b", "request_id": "p-1", "attempt": 2}
    assert folded(started("a", "b"), pause, then)["retries"] == 1
    assert folded(started("a", "b"), then, then | {"attempt": 3})["retries"] == 2


def test_members_come_go_and_rest() -> None:
    """Who has stopped is not shown, until it starts again."""
    came = {"event": "member.started", "member": "c", "incarnation": 1}
    left = {"event": "member.stopped", "member": "c"}
    names = [each["name"] for each in folded(started("a"), came)["members"]]
    assert names == ["a", "c"]
    assert len(folded(started("a"), came, left)["members"]) == 1
    again = {"event": "member.restarted", "member": "c", "incarnation": 3}
    assert folded(started("a"), came, left, again)["members"][1]["incarnation"] == 3
    at = datetime.fromisoformat(AT).timestamp()
    rests = {"event": "member.resting", "member": "a", "rests_s": 5.0}
    assert folded(started("a"), rests, now=at)["members"][0]["reopens_in_s"] == 5.0
    rested = {"event": "member.rested", "member": "a"}
    assert folded(started("a"), rests, rested, now=at)["members"][0]["reopens_in_s"] is None


def test_latencies_and_errors_are_those_of_the_last_attempts() -> None:
    """As in the statistics of a pool: of the last 100 successes, of the last 20 outcomes."""
    slow = {"event": "attempt.succeeded", "member": "a", "elapsed_s": 9.0}
    quick = {"event": "attempt.succeeded", "member": "a", "elapsed_s": 0.5}
    failed = {"event": "attempt.failed", "member": "a", "kind": "timeout", "error": ""}
    (a,) = folded(started("a"), slow, *[quick] * 100, *[failed] * 5)["members"]
    assert (a["successes"], a["failures"]) == (101, 5)
    assert (a["latency_p50_s"], a["latency_p95_s"]) == (0.5, 0.5)
    assert a["error_rate"] == 0.25
    assert a["last_error"] == "timeout"


def test_the_last_events_are_those_worth_a_look() -> None:
    """No lines of DEBUG, of which each request has some."""
    fold = LogFold()
    for number in range(LAST_EVENTS + 5):
        line = {"ts": AT, "level": "INFO", "event": "failover", "pool": "p", "attempt": number}
        fold.take(line)
        fold.take(line | {"level": "DEBUG"})
    events = fold.plain()["events"]
    assert [each["attempt"] for each in events] == list(range(5, LAST_EVENTS + 5))


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"event": "attempt.failed"},
        {"event": "breaker.opened", "pool": 3, "member": []},
        {"event": "breaker.opened", "pool": "p", "member": "a", "reopens_in_s": "soon", "ts": 9},
        {"event": ["x"], "pool": "p"},
    ],
)
def test_a_line_that_is_not_whole_does_no_harm(line: dict[str, Any]) -> None:
    """It may have been cut, or be of another version."""
    fold = LogFold()
    fold.take(line)
    fold.plain()
    assert fold.lines == 1


@pytest.mark.parametrize("number", [10**400, math.inf, math.nan, -1.0, True])
def test_b512_a_number_that_no_log_has_is_none(number: Any) -> None:
    """Python reads numbers of any length, and infinite ones: a line of a file may hold them."""
    pool = folded(
        started("a"),
        {"event": "breaker.opened", "member": "a", "reopens_in_s": number},
        {"event": "member.resting", "member": "a", "rests_s": number},
        {"event": "attempt.succeeded", "member": "a", "elapsed_s": number},
    )
    assert json.dumps(pool, allow_nan=False)
    (member,) = pool["members"]
    assert (member["reopens_in_s"], member["latency_p50_s"]) == (None, None)


def test_it_knows_events_that_there_are() -> None:
    """A name that has changed would be passed over in silence."""
    assert set(_FOLDS) <= {event.name for event in CATALOGUE}

"""A chain and an executor show, tell, record and share as the pool underneath does."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S
from helpers_telemetry import Telling

from greenroom import FallbackChain, MemberConfig, PoolConfig, PoolExecutor, PoolStoppedError
from greenroom.events import BreakerOpened
from greenroom.flight.flight_reading import logs_of
from greenroom.pool.pool_owner import PoolOwner
from greenroom.shared import SqliteState
from greenroom.testing import EventRecorder, http_error

Make = Callable[..., PoolOwner]


def works(agent: str) -> str:
    if agent == "bad":
        raise http_error(503)
    return agent


def a_chain(*agents: str, **options: Any) -> FallbackChain[str]:
    chain = FallbackChain[str](name="along", **options)
    for number, agent in enumerate(agents or ("good",)):
        chain.add(f"m{number}", agent)
    return chain


def an_executor(*agents: str, **options: Any) -> PoolExecutor:
    named = {f"m{number}": agent for number, agent in enumerate(agents or ("good",))}

    def create(name: str, _: Any) -> Callable[[Any], str]:
        return lambda payload: works(named[name])

    return PoolExecutor("along", [MemberConfig(name) for name in named], create, **options)


def used(owner: PoolOwner) -> Any:
    if isinstance(owner, FallbackChain):
        return owner.execute(works)
    assert isinstance(owner, PoolExecutor)
    return owner.execute("x")


both = pytest.mark.parametrize("make", [a_chain, an_executor], ids=["chain", "executor"])


@both
def test_b418_it_is_seen_at_a_status_endpoint(make: Make) -> None:
    with make(status="127.0.0.1:0") as owner:
        used(owner)
        url = owner.pool.status_url
        assert url is not None
        with urllib.request.urlopen(f"{url}/status.json", timeout=WAIT_S) as answer:
            said = json.load(answer)
    assert [pool["name"] for pool in said["pools"]] == ["along"]


@both
def test_b418_it_tells_of_its_requests(make: Make) -> None:
    telling = Telling()
    with make(telemetry=telling.setting) as owner:
        used(owner)
        assert telling.setting.flush(WAIT_S)
        names = sorted(span.name for span in telling.spans)
    assert names == ["attempt m0", "invoke_agent along"]


@both
def test_b418_it_records(make: Make, tmp_path: Path) -> None:
    """Also with the next one of its name, once the first has ended."""
    path = tmp_path / "flight.jsonl"
    for _ in range(2):
        with make(record=path) as owner:
            used(owner)
            assert "was answered by m0" in owner.pool.explain("along-1")
    assert [len(log.requests) for log in logs_of(path)] == [1, 1]


@both
def test_b418_it_shares(make: Make, tmp_path: Path) -> None:
    """What one finds out of a member, the other of its name hears."""
    state = SqliteState(tmp_path / "state.db")
    config = PoolConfig(circuit_failure_threshold=1)
    with (
        EventRecorder() as log,
        make("bad", "good", config=config, shared=state) as one,
        make("bad", "good", config=config, shared=state) as other,
    ):
        name = other.pool.name
        # It is told once another member has answered since.
        until = time.monotonic() + WAIT_S
        while not log.named(BreakerOpened, pool=name):
            assert used(one) == "good"
            assert time.monotonic() < until
        assert log.wait_for(BreakerOpened, pool=name, timeout=WAIT_S).heard


@both
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("status", "nowhere", "status"),
        ("telemetry", "never", "telemetry must be 'auto', a bool or a Telemetry"),
        ("record", 7, "record must be a path, a function"),
        ("shared", 7, "shared"),
        ("shared", "sqlite:state.db", "shared must be None where config is"),
    ],
)
def test_b418_what_it_cannot_be_is_refused_when_it_is_made(
    make: Make, field: str, value: Any, said: str
) -> None:
    """Not with the first request."""
    with pytest.raises((TypeError, ValueError), match=said):
        make(**{field: value})
    make().close()
    with pytest.raises(PoolStoppedError):
        closed = make()
        closed.close()
        used(closed)

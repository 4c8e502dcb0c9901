"""Fixtures that many tests want. The helpers are in files of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import hypothesis
import pytest
from helpers_executor import LABS, MEMBERS, Lab
from helpers_fallback import chain_of
from helpers_hedging import Finishes
from helpers_pools import AGENTS_LOOP

import greenroom
from greenroom import FallbackChain, PoolExecutor
from greenroom.testing import EventRecorder, FakeClock

# How long an example takes on a busy machine says nothing of the code. On CI this keeps what
# hypothesis has switched on for CI.
hypothesis.settings.register_profile("greenroom", hypothesis.settings(deadline=None))
hypothesis.settings.load_profile("greenroom")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["own", "app"])
def agents_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Agents of `pool_of` run on a loop of their pool's own, or on the app's: that of the test if
    it starts its pools in a coroutine, else one in another thread.
    """
    kind: str = request.param
    monkeypatch.setattr(AGENTS_LOOP, "kind", "own" if kind == "own" else "auto")
    with contextlib.nullcontext() if kind == "own" else AGENTS_LOOP.of_an_app():
        yield kind


@pytest.fixture
def log(greenroom_events: EventRecorder) -> EventRecorder:
    """The plugin's own, under a short name."""
    return greenroom_events


@pytest.fixture
def finishes(monkeypatch: pytest.MonkeyPatch) -> Finishes:
    return Finishes(monkeypatch)


@pytest.fixture
def log_off_after() -> Iterator[None]:
    """Whatever a test has switched on is off again when it has ended."""
    yield
    greenroom.log(None)


@pytest.fixture(params=LABS, ids=["sync", "async agent", "async creator", "async"])
def lab(request: pytest.FixtureRequest) -> Lab:
    made: Lab = request.param()
    return made


@pytest.fixture
def executor(lab: Lab) -> Iterator[PoolExecutor]:
    with PoolExecutor("writers", MEMBERS, lab) as executor:
        yield executor


@pytest.fixture
def chain() -> Iterator[FallbackChain[str]]:
    with chain_of("a", "b", "c") as chain:
        yield chain

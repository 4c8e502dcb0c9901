"""Fixtures that many tests want. The helpers are in files of their own."""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from helpers_commands import MODULE
from helpers_engines import engine as engine
from helpers_engines import pytest_collection_modifyitems as pytest_collection_modifyitems
from helpers_engines import takes_seconds as takes_seconds
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

EXIT_S = 120.0
"""How long the interpreter may take to its end once all is tested."""


def pytest_unconfigure() -> None:
    """What keeps a process from ending, a thread that is joined, say, is shown and left."""
    faulthandler.dump_traceback_later(EXIT_S, exit=True, file=sys.__stderr__ or 2)


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


_modules = itertools.count(1)


@pytest.fixture
def write_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes `pool.toml`, and beside it a module of agents; both are in the current directory."""
    module = f"agents_of_test_{next(_modules)}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")

    def write(text: str) -> Path:
        path = tmp_path / "pool.toml"
        path.write_text(text.replace("{module}", module))
        return path

    return write

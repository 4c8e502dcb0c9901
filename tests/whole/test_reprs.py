"""What reporters of errors and debuggers print of the objects in a pool at work."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import pkgutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import Member, Request
from greenroom.actors import request

SECRET = "sesame-4711"
"""In what nobody but the app may know."""


class Held:
    """An agent whose calls begin, and end when it is let go of."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.over = threading.Event()

    def run(self, payload: Any) -> str:
        self.begun.release()
        self.over.wait(WAIT_S)
        return "done"


class HeldStream(Held):
    """The same with a stream, in the midst of which it is held."""

    def run(self, payload: Any) -> Iterator[str]:  # type: ignore[override]
        yield "first"
        self.begun.release()
        self.over.wait(WAIT_S)


def _ours() -> list[object]:
    # As of `type` itself: a class that another test has left behind may refuse to be asked.
    module = type.__getattribute__
    found = [
        each
        for each in gc.get_objects()
        if str(module(type(each), "__module__")).startswith("greenroom.")
    ]
    assert len(found) > 100
    return found


@pytest.mark.parametrize("agent", [Held, HeldStream])
def test_no_repr_of_a_part_shows_what_a_caller_has_handed_over(agent: type[Held]) -> None:
    """With requests that run and requests that wait: error reporters print each frame's `self`."""
    held = agent()
    secret = Request({"said": SECRET}, metadata={"token": SECRET})
    members = [Member("a", held), Member("b", held)]
    with pool_of(*members, request_timeout_s=WAIT_S, chunk_timeout_s=WAIT_S) as pool:
        try:
            ask = pool.stream if agent is HeldStream else pool.tell
            requests = [ask(secret) for _ in range(4)]
            for _ in members:
                assert held.begun.acquire(timeout=WAIT_S)
            pool.stats()
            showing = {type(each).__qualname__ for each in _ours() if SECRET in repr(each)}
        finally:
            held.over.set()
        assert len(requests) == 4
    assert not showing


def test_a_part_of_the_flow_prints_none_of_the_others() -> None:
    """A part that holds others says only what it is: to print all that is in flight, while other
    threads change it, would take long, and might raise.
    """
    names = [f"{request.__name__}.{each.name}" for each in pkgutil.iter_modules(request.__path__)]
    classes = [
        each
        for name in names
        for each in vars(importlib.import_module(name)).values()
        if isinstance(each, type) and each.__module__ == name and dataclasses.is_dataclass(each)
    ]
    parts = [each for each in classes if each.__hash__ is object.__hash__]
    assert len(parts) > 8
    assert [each.__name__ for each in parts if each.__dataclass_params__.repr] == []  # type: ignore[attr-defined]

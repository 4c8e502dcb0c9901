"""The engines that members elsewhere are tested with, and which tests `make test` leaves to targets
of their own, as they take seconds each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from helpers_remote_processes import Engine, http_engine, nats_engine

ENGINES: dict[str, Callable[[], AbstractContextManager[Engine]]] = {
    "http": http_engine,
    "nats": nats_engine,
}
"""By name what opens one: with a server of its own, if it needs any, or skips the test loudly."""

TAKES_SECONDS = "takes_seconds"
"""The fixture that tests ask for which wait for real silences: `make test-workers` runs them."""


PROCESSES = ("test_sharing_processes.py", "test_shared_limit_processes.py")
"""Real processes for each kind of store: `make test-shared` runs all of them."""


@pytest.fixture(params=list(ENGINES), scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with ENGINES[request.param]() as opened:
        yield opened


@pytest.fixture
def takes_seconds() -> None:
    """See `TAKES_SECONDS`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = [each for each in items if _is_left_out(each)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [each for each in items if each not in left]


def _is_left_out(item: pytest.Item) -> bool:
    if TAKES_SECONDS in getattr(item, "fixturenames", ()):
        return not os.environ.get("WORKERS")
    if os.environ.get("STORES") or item.path.parent.name != "shared":
        return False
    by = getattr(item, "callspec", None)
    kinds = set() if by is None else {by.params.get("store"), by.params.get("state")}
    # A PostgreSQL takes seconds to be made.
    if "postgres" in kinds or "postgres" in getattr(item, "fixturenames", ()):
        return True
    # Processes that share by a server: by a file they are in `make test`.
    return item.path.name in PROCESSES and "sqlite" not in kinds

"""`greenroom.log` into the standard library's `logging`."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_log import NASTY, emit
from helpers_pools import WAIT_S
from loguru import logger

import greenroom
from greenroom import AgentPool, Member, Request
from greenroom.actors.runtime.event_bus import complain
from greenroom.events import AttemptFailed, BreakerOpened, MemberGaveUp, PoolStopped
from greenroom.testing import FakeClock

pytestmark = pytest.mark.usefixtures("log_off_after")


class Kept(logging.Handler):
    """Keeps the records."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def app() -> Iterator[logging.Logger]:
    """A logger of the app's, which keeps to itself, at DEBUG."""
    app = logging.getLogger("test_stdlib_sink.app")
    before = app.level, app.propagate
    app.setLevel(logging.DEBUG)
    yield app
    app.level, app.propagate = before
    app.handlers.clear()


def test_b384_records_have_their_level_and_what_they_are_about(app: logging.Logger) -> None:
    """As attributes: a formatter, or a library for JSON, can show them."""
    kept = Kept()
    app.addHandler(kept)
    off = greenroom.log("INFO", sink=app)
    emit(
        PoolStopped(pool="writers"),
        AttemptFailed(pool="writers", member="a", request_id="r-1", error=NASTY),
        BreakerOpened(pool="writers", member="a", reason="forced"),
        MemberGaveUp(pool="writers", member="a"),
    )
    off()
    records = kept.records
    assert [each.levelname for each in records] == ["INFO", "WARNING", "ERROR", "CRITICAL"]
    failed = records[1]
    assert (failed.name, failed.event, failed.pool) == (app.name, "attempt.failed", "writers")
    assert (failed.member, failed.request_id, failed.attempt) == ("a", "r-1", 1)
    assert failed.getMessage() == (
        f"attempt.failed writers/a: attempt 1 failed after 0.000 s: unknown, {NASTY}"
    )


def test_b384_a_format_may_name_what_every_event_has(
    app: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pykka's records, and faults that are no events, have it too: else `logging` prints an error
    of its own for each of them.
    """
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(event)s %(pool)s %(member)s %(request_id)s"))
    app.addHandler(handler)
    off = greenroom.log("DEBUG", sink=app)
    logging.getLogger("pykka").debug("Registered")
    emit(PoolStopped(pool="writers"))
    off()
    assert stream.getvalue() == "log None None None\npool.stopped writers None None\n"
    assert capsys.readouterr().err == ""


def test_b384_a_logger_s_own_level_holds(app: logging.Logger) -> None:
    """And that of a handler that is the sink."""
    kept = Kept(logging.ERROR)
    app.addHandler(kept)
    app.setLevel(logging.ERROR)
    for sink in (app, kept):
        off = greenroom.log("DEBUG", sink=sink)
        emit(PoolStopped(pool="p"), BreakerOpened(pool="p", reason="forced"))
        off()
    assert [each.event for each in kept.records] == ["breaker.opened"] * 2


def test_b384_json_is_the_message(app: logging.Logger) -> None:
    """Whatever the handlers put around it."""
    out = io.StringIO()
    app.addHandler(logging.StreamHandler(out))
    off = greenroom.log(sink=app, format="json")
    emit(PoolStopped(pool="writers"))
    off()
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["event"] == "pool.stopped"


def test_b384_a_fault_has_its_traceback(app: logging.Logger) -> None:
    """As `logging` shows one."""
    out = io.StringIO()
    app.addHandler(logging.StreamHandler(out))
    off = greenroom.log(sink=app)
    try:
        raise ValueError("boom")
    except ValueError as error:
        complain("closing failed", error)
    off()
    lines = out.getvalue().splitlines()
    assert lines[0] == "closing failed: ValueError: boom"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: boom"


class ToLoguru(logging.Handler):
    """As loguru's own recipe has `logging` come to it."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.bind(bridged=True).log(record.levelname, "{}", record.getMessage())


@pytest.mark.parametrize("asked", [False, True])
def test_b384_bridges_make_no_loop(app: logging.Logger, asked: bool) -> None:
    """Where the app brings `logging` to loguru: what went there does not come back, though the app
    has asked loguru for greenroom's lines as well. Pykka's logger comes here once.
    """
    seen, kept = list[str](), Kept()
    own = logger.add(lambda message: seen.append(message.record["message"]), level="DEBUG")
    app.addHandler(ToLoguru())
    app.addHandler(kept)
    if asked:
        logger.enable("greenroom")
    off = greenroom.log("DEBUG", sink=app)
    try:
        with AgentPool.start([Member("a", len)], clock=FakeClock()) as pool:
            pool.ask(Request("x"), timeout=WAIT_S)
        logging.getLogger("pykka").warning("odd")
    finally:
        off()
        logger.remove(own)
        logger.disable("greenroom")
    events = [each.event for each in kept.records if hasattr(each, "event")]
    assert events.count("request.completed") == 1
    assert sum(each.getMessage() == "odd" for each in kept.records) == 1
    told = sum(message.startswith("request.completed") for message in seen)
    assert told == (2 if asked else 1)


@pytest.mark.parametrize("name", ["pykka", "pykka.sub"])
def test_b384_pykkas_logger_is_refused(name: str) -> None:
    """Its lines come here: that would be a loop."""
    with pytest.raises(ValueError, match="sink must not be Pykka's own logger"):
        greenroom.log(sink=logging.getLogger(name))


def test_b384_rotation_is_of_a_file(app: logging.Logger) -> None:
    """A logger has handlers of its own for that."""
    with pytest.raises(ValueError, match=re.escape("rotation is of a file: sink must be a path")):
        greenroom.log(sink=app, rotation="1 MB")

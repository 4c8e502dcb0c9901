"""`greenroom.log`: how it is switched on and off, what it costs pools, and what it leaves alone."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_log import SECRET, emit, logged
from helpers_pools import WAIT_S
from loguru import logger

import greenroom
from greenroom import AgentPool, AllPoolMembersFailedError, Member, PoolConfig, Request
from greenroom.actors.runtime.event_bus import EventBus, complain
from greenroom.actors.runtime.pool_actor import PoolActor
from greenroom.events import AttemptFailed, BreakerOpened, HealthChanged, PoolStopped
from greenroom.logs import writer
from greenroom.messages.errors import summary
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, Hang, ScriptedAgent

pytestmark = pytest.mark.usefixtures("log_off_after")


def run(script: str, **environment: str) -> tuple[list[str], list[str]]:
    """Run a script in a process of its own; its lines on stdout and on stderr."""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )
    return ran.stdout.splitlines(), ran.stderr.splitlines()


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "greenroom-log"]


FAILING_POOL = """
import greenroom
from greenroom import AgentPool, Member, Request
from greenroom.testing import ScriptedAgent
def work():
    with AgentPool.start([Member("a", ScriptedAgent.failing(1))], name="writers") as pool:
        try:
            pool.ask(Request("hi", max_retries=0), timeout=10)
        except greenroom.AllPoolMembersFailedError:
            pass
"""


# -- what is printed, and where


def test_a_library_is_silent_by_default() -> None:
    """A failing member prints nothing anywhere until the app asks for it."""
    assert run(FAILING_POOL + "work(); print('done')") == (["done"], [])


def test_the_log_is_on_stderr_and_each_line_is_there_once() -> None:
    """loguru's own handler goes on with the app's messages and leaves greenroom's out."""
    script = "from loguru import logger; greenroom.log(); work(); logger.info('my own')"
    out, err = run(FAILING_POOL + script)
    assert out == []
    assert sum("attempt.failed" in line for line in err) == 1
    assert sum("attempt 1" in line for line in err) == 1
    assert sum("my own" in line for line in err) == 1


def test_the_default_handler_is_put_back() -> None:
    """loguru's own keeps its id, so that the app can remove it; after the log it hides nothing."""
    script = """
from loguru import logger
greenroom.log(sink=lambda line: None)()
logger.enable("greenroom")
work()
greenroom.log(sink=lambda line: None)
logger.remove(0)
"""
    _, err = run(FAILING_POOL + script)
    assert sum("attempt 1 failed" in line for line in err) == 1


def test_all_lines_are_written_before_the_process_ends() -> None:
    """The last events of a process are not lost with the thread that writes them."""
    script = """
import greenroom, threading
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.events import PoolStopped
emitted = threading.Event()
def slow(line):
    emitted.wait(30)
    print(line, end="", flush=True)
greenroom.log(sink=slow)
for n in range(100):
    EventBus("p").emit(PoolStopped(pool="p", unfinished=n + 1))
emitted.set()
"""
    out, err = run(script)
    assert (len(out), err) == (100, [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_has_its_log() -> None:
    """As under a web server that loads the app and then forks its workers."""
    script = """
import greenroom, os, signal
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.events import PoolStopped
off = greenroom.log(sink=os.fdopen(os.dup(1), "w"))
bus = EventBus("p")
bus.emit(PoolStopped(pool="before"))
child = os.fork()
if not child:
    signal.alarm(30)  # one that hangs is ended by it
bus.emit(PoolStopped(pool="after"))
off()
if child:
    os.waitpid(child, 0)
"""
    out, err = run(script)
    assert err == []
    assert sum("after" in line for line in out) == 2


@pytest.fixture
def shown_by_loguru() -> Iterator[None]:
    """The app has asked for what greenroom says, by loguru's own switch."""
    logger.enable("greenroom")
    yield
    logger.disable("greenroom")


@pytest.mark.parametrize("level", ["DEBUG", "ERROR"])
def test_b381_the_apps_own_sinks_get_nothing_unasked(level: str) -> None:
    """Not by the log, at whatever level that is; they go on with what the app says itself."""
    records: list[Any] = []
    own = logger.add(lambda message: records.append(message.record), level="DEBUG")
    try:
        with logged(level) as lines, AgentPool.start([Member("a", len)]) as pool:
            pool.execute("x")
            emit(BreakerOpened(pool="writers", member="claude", reason="forced"))
            complain("closing failed", ValueError("no"))
            logging.getLogger("pykka").warning("odd")
            logger.debug("my own")
    finally:
        logger.remove(own)
    assert [record["message"] for record in records] == ["my own"]
    assert any("breaker.opened" in line for line in lines())


@pytest.mark.usefixtures("shown_by_loguru")
def test_b381_the_apps_own_sinks_get_the_events_when_the_app_says_so() -> None:
    """With the event's fields bound, and they are still there when the log is off."""
    records: list[Any] = []
    own = logger.add(lambda message: records.append(message.record), level="ERROR")
    try:
        with logged():
            emit(BreakerOpened(pool="writers", member="claude", reason="forced"))
        emit(BreakerOpened(pool="writers", member="claude", reason="heard as well"))
        logger.error("my own")
    finally:
        logger.remove(own)
    assert len(records) == 3
    assert records[0]["message"] == (
        "breaker.opened writers/claude: breaker opened: forced; stays open until it is reset"
    )
    extra = records[0]["extra"]
    assert (extra["event"], extra["pool"], extra["member"]) == (
        "breaker.opened",
        "writers",
        "claude",
    )


def test_the_apps_messages_are_not_in_the_log() -> None:
    """Only what is greenroom's, not even that of a module with a similar name."""
    with logged("DEBUG") as lines:
        logger.error("my own")
        exec("logger.error('mine too')", {"logger": logger, "__name__": "greenroom_app"})
    assert lines() == []


def test_the_level_is_the_least_that_is_shown() -> None:
    """Also for an event that is more severe than its class says."""
    with logged("warning") as lines:
        emit(
            PoolStopped(pool="p"),
            HealthChanged(pool="p", before=greenroom.AgentStatus.UNHEALTHY),
            HealthChanged(pool="p", after=greenroom.AgentStatus.UNHEALTHY),
        )
    (line,) = lines()
    assert "WARNING" in line


@pytest.mark.parametrize("how", ["path", "text path", "callable"])
def test_other_sinks(how: str, tmp_path: Path) -> None:
    """A file is appended to and closed; a callable is given each line."""
    path = tmp_path / "pool.log"
    path.write_text("before\n")
    lines: list[str] = []
    sink: Any = {"path": path, "text path": str(path), "callable": lines.append}[how]
    off = greenroom.log(sink=sink)
    emit(PoolStopped(pool="größe"))
    off()
    text = "".join(lines) if how == "callable" else path.read_text("utf-8")
    assert text.startswith("before\n") == (how != "callable")
    assert text.endswith("INFO      größe   -         pool.stopped\n")


def test_a_process_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a windowed program is: the log goes nowhere, and nothing breaks."""
    monkeypatch.setattr(sys, "stderr", None)
    off = greenroom.log()
    emit(PoolStopped(pool="p"))
    off()


# -- on and off


def test_switching_on_again_replaces_the_log() -> None:
    """The first one gets nothing more, and its own switch is dead."""
    first, second = io.StringIO(), io.StringIO()
    off_first = greenroom.log(sink=first)
    greenroom.log(sink=second)
    off_first()
    emit(PoolStopped(pool="p"))
    greenroom.log(None)
    assert first.getvalue() == ""
    assert "pool.stopped" in second.getvalue()


@pytest.mark.parametrize("how", ["the switch", "log(None)"])
def test_switching_off(how: str) -> None:
    """Nothing more is written, the thread has ended, and doing it twice does no harm."""
    sink = io.StringIO()
    off = greenroom.log(sink=sink)
    emit(PoolStopped(pool="p"))
    (thread,) = writer_threads()
    for _ in range(2):
        off() if how == "the switch" else greenroom.log(None)
    assert not thread.is_alive()
    emit(PoolStopped(pool="p"))
    assert sink.getvalue().count("pool.stopped") == 1
    assert not sink.closed


def test_a_refused_call_leaves_the_log_as_it_is() -> None:
    """A typo in a setting must not silence a running app."""
    with logged() as lines:
        with pytest.raises(ValueError):
            greenroom.log("LOUD")
        emit(PoolStopped(pool="p"))
    assert len(lines()) == 1


def test_b381_an_app_may_remove_every_handler() -> None:
    """With loguru's own `remove`: the log is none of them, and goes on until it is switched off."""
    script = """
import greenroom, sys, threading
from loguru import logger
off = greenroom.log(sink=sys.stdout)
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.events import PoolStopped
EventBus("p").emit(PoolStopped(pool="p"))
logger.remove()
EventBus("p").emit(PoolStopped(pool="q"))
off()
print([t.name for t in threading.enumerate()])
"""
    out, err = run(script)
    assert [line.split()[2] for line in out[:2]] == ["p", "q"]
    assert out[-1] == "['MainThread']"
    assert err == []


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"level": "LOUD"},
            ValueError,
            "level must be None or one of TRACE, DEBUG, INFO, SUCCESS, WARNING, ERROR, CRITICAL",
        ),
        ({"level": 20}, TypeError, "level must be a string or None, got 20 (int)"),
        ({"format": "xml"}, ValueError, "format must be 'text' or 'json', got 'xml'"),
        (
            {"sink": 1},
            TypeError,
            "sink must be a stream, a path, a callable, a logger or None, got 1 (int)",
        ),
    ],
)
def test_what_is_refused(arguments: Any, error: type[Exception], text: str) -> None:
    """By the field's name, its value and the rule."""
    with pytest.raises(error, match=re.escape(text)):
        greenroom.log(**arguments)


# -- who reads DEBUG


def test_debug_events_are_made_for_somebody_only() -> None:
    """A bus knows without logging whether a DEBUG message would reach a sink."""
    script = """
import sys
import greenroom
from loguru import logger
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.events import PoolStopped
bus = EventBus("p")
def reads(when):
    print(when, bus.listening(), bus.listening())
reads("at first:")
bus.emit(PoolStopped(pool="p"))
reads("after a message:")
logger.enable("greenroom")
reads("switched on by loguru:")
off = greenroom.log("INFO", sink=lambda line: None)
reads("the log at INFO:")
own = logger.add(lambda message: None, level="DEBUG")
reads("and an own sink:")
logger.remove(own)
reads("without it:")
off = greenroom.log("DEBUG", sink=lambda line: None)
reads("the log at DEBUG:")
off()
reads("off:")
logger.enable("")
reads("everything on:")
logger.disable("greenroom.actors")
reads("but the actors:")
logger.enable("greenroom.actors")
logger.remove()
reads("no sink:")
"""
    out, err = run(script)
    assert err == []
    assert dict(line.split(": ") for line in out) == {
        "at first": "False False",
        "after a message": "False False",
        "switched on by loguru": "True True",
        "the log at INFO": "False False",
        "and an own sink": "True True",
        "without it": "False False",
        "the log at DEBUG": "True True",
        "off": "True True",
        "everything on": "True True",
        "but the actors": "False False",
        "no sink": "False False",
    }


def test_an_event_is_made_for_those_who_read_its_level() -> None:
    """With a log at WARNING, what is told at INFO need not be made, and what is worse must be."""
    script = """
import greenroom
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.events import AttemptFailed, PoolStopped
bus = EventBus("p")
levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
def reads():
    print(*(level for level in levels if bus.listening(level)))
reads()
lines = []
off = greenroom.log("WARNING", sink=lines.append)
reads()
bus.emit(PoolStopped(pool="p"))
bus.emit(AttemptFailed(pool="p"))
off()
print(len(lines), "attempt.failed" in lines[0])
bus.subscribe(lambda event: None)
reads()
"""
    out, err = run(script)
    assert err == []
    every = "DEBUG INFO WARNING ERROR CRITICAL"
    assert out == ["", "WARNING ERROR CRITICAL", "1 True", every]


def test_whoever_cannot_be_asked_counts_as_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a loguru that looks different inside: rather too many events than too few."""
    monkeypatch.delattr(logger, "_core")
    assert EventBus("p").listening()


# -- payloads


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_payload_is_ever_logged(format: str) -> None:
    """Not at DEBUG, whatever becomes of the request."""
    hanging = AsyncScriptedAgent([Hang()])
    members = [
        Member("fails", ScriptedAgent.failing(100)),
        Member("hangs", hanging),
        Member("unmade", factory=lambda: 1 / 0),
    ]
    with (
        logged("DEBUG", format=format) as lines,
        EventRecorder() as events,
        AgentPool.start(members, strategy="round_robin", clock=FakeClock()) as pool,
    ):
        futures = [pool.ask(Request(SECRET), block=False) for _ in range(3)]
        hanging.wait_for_calls(1)
        futures[0].cancel()
        pool.tell(Request(SECRET, metadata={"text": SECRET}))
        with pytest.raises(greenroom.PoolError):
            pool.apply(lambda agent: agent.no_such_method(SECRET), timeout=0.01)
        events.wait_for("attempt.failed")
    assert len(lines()) > 10
    assert SECRET not in "\n".join(lines())


@pytest.mark.usefixtures("shown_by_loguru")
def test_no_sink_of_the_apps_shows_the_values_of_variables() -> None:
    """Even one with loguru's `diagnose`, which is its default: it is never given the error."""
    seen: list[Any] = []

    def broken(payload: str) -> None:
        raise ValueError(len(payload))

    own = logger.add(seen.append, level="DEBUG", diagnose=True, backtrace=True)
    payload = SECRET
    try:
        with logged():
            try:
                broken(payload)
            except ValueError as error:
                complain("a subscriber raised", error)
                logging.getLogger("pykka").exception("Unhandled exception in X")
    finally:
        logger.remove(own)
    assert [message.record["message"] for message in seen] == [
        "a subscriber raised: ValueError: 32",
        "Unhandled exception in X",
    ]
    assert all("broken(payload)" in message.record["extra"]["traceback"] for message in seen)
    assert SECRET not in "".join(f"{message} {message.record}" for message in seen)


def test_an_actor_does_not_repeat_a_message_that_it_refuses() -> None:
    """The error that a log may show names the type of what came, and no more."""

    class Deadly(PoolActor):
        def __init__(self) -> None:
            super().__init__(FakeClock())
            self.handlers[bytes] = self.die

        def die(self, message: bytes) -> None:
            raise SystemExit

    with logged() as lines:
        actor: Any = Deadly.start()
        actor.tell(SECRET)
        with pytest.raises(TypeError, match=r"greenroom\.messages, got a str$"):
            actor.ask(SECRET, timeout=10)
        with pytest.raises(RuntimeError, match=r"^SystemExit while handling a bytes$"):
            actor.ask(SECRET.encode(), timeout=10)
        actor.stop()
    assert SECRET not in "\n".join(lines())
    assert [line.split("failed to ")[1] for line in lines() if "failed to" in line] == [
        "handle a str: TypeError: Deadly takes the messages of greenroom.messages, got a str",
        "handle a bytes: SystemExit",
    ]


# -- Pykka


def test_pykka_is_bridged() -> None:
    """Its warnings come once, with traceback; what it says meanwhile does not go to the root."""
    root = io.StringIO()
    handler = logging.StreamHandler(root)
    logging.getLogger().addHandler(handler)
    try:
        with logged() as lines:
            logging.getLogger("pykka").warning("odd {%s} <red>", 1)
            try:
                raise ValueError("boom")
            except ValueError:
                logging.getLogger("pykka").exception("Unhandled exception in X")
        logging.getLogger("pykka").warning("afterwards")
    finally:
        logging.getLogger().removeHandler(handler)
    assert lines()[0].split(maxsplit=1)[1] == (
        "WARNING   -       -         pykka                 odd {1} <red>"
    )
    assert lines()[-1] == "  ValueError: boom"
    assert root.getvalue() == "afterwards\n"


@pytest.mark.parametrize(("level", "chatter"), [("DEBUG", True), ("INFO", False)])
def test_pykkas_chatter_is_for_debugging(level: str, chatter: bool) -> None:
    """What it logs below WARNING only comes at DEBUG; its logger is put back as it was."""
    source = logging.getLogger("pykka")
    before = (source.level, source.propagate, list(source.handlers))
    with logged(level, format="json") as lines, AgentPool.start([Member("a", len)]):
        pass
    assert any(json.loads(line).get("logger") == "pykka" for line in lines()) == chatter
    assert (source.level, source.propagate, list(source.handlers)) == before


# -- sinks that do not keep up


def test_a_stuck_sink_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go on while the sink is stuck; what had no room is counted where it is missing."""
    monkeypatch.setattr(writer, "BACKLOG", 20)
    stuck, go_on, lines = threading.Event(), threading.Event(), list[str]()

    def sink(line: str) -> None:
        stuck.set()
        go_on.wait(WAIT_S)
        lines.append(line)

    off = greenroom.log("DEBUG", sink=sink)
    with AgentPool.start([Member("a", ScriptedAgent(["hi"]))], clock=FakeClock()) as pool:
        assert stuck.wait(10)
        for _ in range(20):
            assert pool.ask(Request("x"), timeout=10).value == "hi"
    go_on.set()
    off()
    assert len(lines) == 22
    lost = re.search(r"WARNING .* (\d+) lines of the log were lost here", lines[-1])
    assert lost is not None
    assert int(lost[1]) > 20


def test_a_sink_that_raises_is_complained_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, past the log; the next lines are tried all the same."""
    seen: list[str] = []

    def sink(line: str) -> None:
        seen.append(line)
        raise SystemExit("no room")

    off = greenroom.log(sink=sink)
    for _ in range(3):
        emit(PoolStopped(pool="p"))
    off()
    assert len(seen) == 3
    assert capsys.readouterr().err == "greenroom.log: the sink raised SystemExit: no room\n"


def test_a_sink_may_use_the_log_itself() -> None:
    """A callable that logs through loguru, or even emits, does not deadlock."""
    count = 0

    def sink(line: str) -> None:
        nonlocal count
        count += 1
        logger.debug("seen: {}", line)
        if count == 1:
            emit(PoolStopped(pool="again"))

    off = greenroom.log(sink=sink)
    own = logger.add(lambda _: None, level="DEBUG")
    emit(PoolStopped(pool="p"))
    off()
    logger.remove(own)
    assert count >= 1


def test_errors_of_a_request_reach_its_asker_as_ever() -> None:
    """The log takes nothing away."""
    with (
        logged(),
        AgentPool.start([Member("a", ScriptedAgent.failing(9))], clock=FakeClock()) as pool,
        pytest.raises(AllPoolMembersFailedError),
    ):
        pool.ask(Request("x", max_retries=0), timeout=10)


# -- files that are rotated, and what the app wants left out


def test_b267_a_file_is_rotated_and_old_ones_are_dropped(tmp_path: Path) -> None:
    """As loguru does it: by size, and so many of them are kept."""
    path = tmp_path / "app.jsonl"
    off = greenroom.log("INFO", format="json", sink=path, rotation=400, retention=2)
    members = [Member("a", len)]
    for _ in range(4):
        with AgentPool.start(members):
            pass
    off()
    files = sorted(tmp_path.iterdir(), key=lambda each: each.stat().st_mtime)
    assert path in files
    assert len(files) == 3
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert all(len(file.read_bytes()) <= 400 for file in files)
    assert lines[-1]["event"] == "pool.stopped"


def test_b267_rotated_files_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    off = greenroom.log("INFO", sink=path, rotation=1, compression="gz")
    with AgentPool.start([Member("a", len)]):
        pass
    off()
    assert {each.suffix for each in tmp_path.iterdir()} == {".gz", ".log"}


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"rotation": "often"}, "rotation='often' is not what loguru takes: "),
        ({"retention": "some"}, "retention='some' is not what loguru takes: "),
        ({"compression": "rarest"}, "compression='rarest' is not what loguru takes: "),
        ({"rotation": "1 MB", "sink": sys.stderr}, "rotation is of a file: sink must be a path"),
        ({"redact": "sk-"}, "redact must be callable, got 'sk-' (str)"),
    ],
)
def test_b267_what_loguru_does_not_take_is_refused_at_once(
    options: dict[str, Any], wrong: str, tmp_path: Path
) -> None:
    """And what was there goes on."""
    said = io.StringIO()
    greenroom.log(sink=said)
    with pytest.raises((TypeError, ValueError), match=re.escape(wrong)):
        greenroom.log(**{"sink": tmp_path / "app.log", **options})
    with AgentPool.start([Member("a", len)]):
        pass
    greenroom.log(None)
    assert "pool.stopped" in said.getvalue()


def fails(text: str) -> Any:
    def agent(payload: Any) -> Any:
        raise ConnectionError(text)

    return agent


def test_b268_redact_sees_every_text_of_an_error(greenroom_events: EventRecorder) -> None:
    """In the log, in events, in statistics; keys are masked before."""
    said = io.StringIO()
    given = list[str]()

    def redact(text: str) -> str:
        given.append(text)
        return text.replace("Ann", "<a name>")

    off = greenroom.log("DEBUG", format="json", sink=said, redact=redact)
    error = "no account of Ann: sk-123456789"
    with AgentPool.start([Member("a", fails(error))], config=PoolConfig(max_retries=0)) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("hello")
        last = pool.stats()["a"].last_error
    off()
    assert last == "ConnectionError: no account of <a name>: ***"
    (failed,) = greenroom_events.named(AttemptFailed)
    assert "Ann" not in str(failed)
    assert "Ann" not in said.getvalue()
    assert given
    assert not any("sk-1" in text for text in given)
    greenroom.log(None)
    assert summary(ConnectionError("Ann")) == "ConnectionError: Ann"


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3), KeyboardInterrupt()])
def test_b268_where_redact_fails_nothing_is_shown(error: BaseException) -> None:
    """Nor does it end an actor."""

    def redact(text: str) -> str:
        raise error

    off = greenroom.log("INFO", sink=io.StringIO(), redact=redact)
    members = [Member("a", fails("Ann")), Member("b", len, priority=1)]
    with AgentPool.start(members, strategy="priority") as pool:
        assert pool.execute("hello") == 5
        assert pool.stats()["a"].last_error == "ConnectionError: ***"
    off()
    off = greenroom.log("INFO", sink=io.StringIO(), redact=lambda text: None)  # type: ignore[arg-type, return-value]
    assert summary(ConnectionError("Ann")) == "ConnectionError: ***"
    greenroom.log(None)


def test_b391_nothing_logs_by_loguru_alone() -> None:
    """It would be missing in the log: `say` and `complain` of the event bus bring it to both."""
    root = Path(greenroom.__file__).parent
    by_loguru = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"^from loguru import|^import loguru", path.read_text("utf-8"), re.MULTILINE)
    }
    assert by_loguru == {
        "__init__.py",
        "actors/runtime/event_bus.py",
        "logs/log.py",
        "logs/pykka_bridge.py",
        "logs/writer.py",
    }

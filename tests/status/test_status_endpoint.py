"""The status endpoint of a pool: what each path says, to whom, and for how long."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from helpers_pools import WAIT_S
from helpers_status import ANY, address_of, connected, events_of, get

from greenroom import AgentPool, Member, PoolRef, Request
from greenroom.actors.runtime import pool_names
from greenroom.status import board, endpoints, status_pages, status_server
from greenroom.status.event_buffer import EventBuffer
from greenroom.status.status_address import StatusAddress
from greenroom.status.watched_pool import WatchedPool

posix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")


@pytest.fixture
def pool() -> Iterator[PoolRef]:
    members = [Member("a", str.upper), Member("b", str.upper, tags=("slow",))]
    with AgentPool.start(members, status=ANY, name="writers") as pool:
        yield pool


def gone(address: StatusAddress) -> bool:
    """Whether nobody listens there any more."""
    try:
        connected(address).close()
    except OSError:
        return True
    return False


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does at the end of a pool."""
    over = threading.Event()
    for _ in range(int(WAIT_S * 100)):
        if holds():
            return
        over.wait(0.01)
    assert holds()


# -- the paths


def test_health_and_readiness_of_a_pool_that_works(pool: PoolRef) -> None:
    """Both are fine."""
    address = address_of(pool)
    assert (get(address, "/healthz").status, get(address, "/healthz").text) == (200, "ok\n")
    assert get(address, "/readyz").text == "writers: ready\n"


def test_a_pool_without_anybody_is_not_ready_but_healthy(pool: PoolRef) -> None:
    """Nobody is to restart a process whose members are out: they come back."""
    address = address_of(pool)
    pool.force_open("a")
    assert get(address, "/readyz").status == 200
    pool.force_open("b")
    ready = get(address, "/readyz")
    assert (ready.status, ready.text) == (503, "writers: nobody is available\n")
    assert get(address, "/healthz").status == 200
    pool.reset_all()
    assert get(address, "/readyz").status == 200


def test_the_status_is_what_the_statistics_say(pool: PoolRef) -> None:
    """As plain JSON, the counts of requests by outcome beside them."""
    pool.execute("x")
    pool.force_open("b")
    status = get(address_of(pool), "/status.json").json()
    assert status["pid"] == os.getpid()
    (said,) = status["pools"]
    assert (said["name"], said["answers"], said["can_serve"]) == ("writers", True, True)
    assert said["completed"] == said["requests"]["answered"] == 1
    a, b = said["members"]
    assert (a["name"], a["status"], a["circuit"], a["tags"]) == ("a", "healthy", "closed", [])
    assert (b["name"], b["circuit"], b["tags"]) == ("b", "forced_open", ["slow"])
    (opened,) = (each for each in status["events"] if each["event"] == "breaker.opened")
    assert opened["member"] == "b"


def test_the_last_events_are_as_many_as_are_asked_for(pool: PoolRef) -> None:
    """The newest last; what is no number is refused."""
    address = address_of(pool)
    pool.force_open("a")
    pool.force_open("b")
    assert get(address, "/status.json?events=0").json()["events"] == []
    last = get(address, "/status.json?events=2").json()["events"]
    assert [each["event"] for each in last] == ["breaker.opened", "health.changed"]
    assert {each["member"] for each in last} == {"b"}
    for wrong in ("-1", "x", "", "1" * 20):
        refused = get(address, f"/status.json?events={wrong}")
        assert refused.status == 400
        assert repr(wrong) in refused.text


def test_no_payload_gets_in() -> None:
    """Neither of a request, nor what an app keeps beside a member; texts of errors are masked."""

    def fail(payload: str) -> str:
        raise ConnectionError("no route with api_key=sk-abcdefghijklmnopqrstuvwxyz")

    member = Member("a", fail, metadata={"key": "of-the-app"})
    with AgentPool.start([member], status=ANY) as pool:
        address = address_of(pool)
        with pytest.raises(Exception, match="no member"):
            pool.execute("the-payload")
        for path in ("/status.json", "/metrics", "/"):
            text = get(address, path).text
            assert "the-payload" not in text
            assert "of-the-app" not in text
            assert "sk-abcdef" not in text
        (said,) = get(address, "/status.json").json()["pools"]
        assert "ConnectionError" in said["members"][0]["last_error"]


def test_the_page_lets_in_nothing_but_its_own_script(pool: PoolRef) -> None:
    """One file: nothing is loaded from elsewhere, and the policy of its contents says so."""
    page = get(address_of(pool), "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)\s*=\s*["']|@import|url\(|innerHTML""", page.text)
    # The hash is that of exactly this text.
    assert len(re.findall(r"<script>|<style>", page.text)) == 2


def test_every_answer_is_safe_to_show(pool: PoolRef) -> None:
    """Not kept, not framed, not guessed at, not read by another site."""
    address = address_of(pool)
    for path in (*status_pages.PATHS[:-1], "/nothing"):
        headers = get(address, path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Content-Security-Policy" in headers
        assert "Access-Control-Allow-Origin" not in headers
        assert "Server" not in headers


def test_without_the_extra_the_metrics_name_it(
    pool: PoolRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """501, and how to install it; all else works."""
    monkeypatch.delitem(sys.modules, "greenroom.status.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    missing = get(address_of(pool), "/metrics")
    assert missing.status == 501
    assert "pip install 'greenroom[metrics]'" in missing.text
    assert get(address_of(pool), "/status.json").status == 200


# -- who may ask, and how


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_it_is_read_only(pool: PoolRef, method: str) -> None:
    """Whatever the method is, but for GET and HEAD."""
    refused = get(address_of(pool), "/status.json", method)
    assert refused.status == 405
    assert refused.headers["Allow"] == "GET, HEAD"


def test_head_has_the_headers_alone(pool: PoolRef) -> None:
    """Those of GET, its length among them."""
    head = get(address_of(pool), "/healthz", "HEAD")
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == "3"


def test_a_path_that_there_is_not(pool: PoolRef) -> None:
    """404, with those that there are."""
    missing = get(address_of(pool), "/../etc/passwd")
    assert missing.status == 404
    assert "/metrics" in missing.text
    assert "passwd" not in missing.text


@pytest.mark.parametrize("host", [None, "evil.example", "evil.example:80"])
def test_a_page_of_elsewhere_cannot_read_it(pool: PoolRef, host: str | None) -> None:
    """Though its name stands for this machine (DNS rebinding)."""
    assert get(address_of(pool), "/status.json", host=host).status == 403


@pytest.mark.parametrize("host", ["LOCALHOST", "127.1"])
def test_loopback_is_guarded_however_it_is_written(host: str) -> None:
    """By what it is bound to; the name that it was given is its own as well."""
    with AgentPool.start([Member("a", str.upper)], status=f"{host}:0") as pool:
        address = StatusAddress("127.0.0.1", address_of(pool).port)
        assert get(address, "/status.json", host="evil.example").status == 403
        for name in (host, "localhost", "127.0.0.1"):
            assert get(address, "/healthz", host=name).status == 200


def test_beyond_this_machine_any_name_will_do() -> None:
    """How it is called there is not known."""
    with AgentPool.start([Member("a", str.upper)], status="0.0.0.0:0") as pool:
        address = StatusAddress("127.0.0.1", address_of(pool).port)
        assert get(address, "/healthz", host="box.example:9100").status == 200


@pytest.mark.parametrize(
    "said", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x00\xff / HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_request_is_refused(pool: PoolRef, said: bytes) -> None:
    """Or not answered at all; the next one is served."""
    with connected(address_of(pool)) as connection:
        connection.sendall(said)
        answer = connection.makefile("rb").read()
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    assert get(address_of(pool), "/healthz").status == 200


def test_who_says_nothing_is_let_go(pool: PoolRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is who never comes to an end."""
    monkeypatch.setattr(status_server, "HEAD_S", 0.05)
    with connected(address_of(pool)) as silent:
        assert silent.recv(10) == b""
    monkeypatch.setattr(status_server, "HEAD_S", WAIT_S)
    with connected(address_of(pool)) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        with pytest.raises(ConnectionError):
            # The rest of what was sent lies there unread, so it may be a reset.
            if not endless.recv(10):
                raise ConnectionError


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes on top is told so at once; once somebody has left there is room again."""
    monkeypatch.setattr(status_server, "CONNECTIONS", 2)
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        address = address_of(pool)
        with events_of(address), events_of(address):
            assert get(address, "/healthz").status == 503
        eventually(lambda: get(address, "/healthz").status == 200)


# -- several pools, and their ends


def test_pools_of_one_address_share_it() -> None:
    """Each is shown; it ends with the last of them."""
    first = AgentPool.start([Member("a", str.upper)], status=ANY, name="first")
    address = address_of(first)
    with AgentPool.start([Member("b", str.upper)], status=str(address), name="second") as second:
        assert second.status_url == first.status_url
        names = [each["name"] for each in get(address, "/status.json").json()["pools"]]
        assert names == ["first", "second"]
        second.force_open("b")
        ready = get(address, "/readyz")
        assert (ready.status, ready.text) == (503, "first: ready\nsecond: nobody is available\n")
        assert get(address, "/readyz?pool=first").status == 200
        assert get(address, "/readyz?pool=second").status == 503
        assert get(address, "/readyz?pool=third").status == 404
        first.stop()
        eventually(lambda: len(get(address, "/status.json").json()["pools"]) == 1)
    eventually(lambda: gone(address))


def test_another_address_is_another_endpoint(pool: PoolRef, tmp_path: Path) -> None:
    """Neither shows the pools of the other."""
    with AgentPool.start([Member("c", str.upper)], status="localhost:0", name="other") as other:
        (said,) = get(address_of(other), "/status.json").json()["pools"]
        assert said["name"] == "other"
        (said,) = get(address_of(pool), "/status.json").json()["pools"]
        assert said["name"] == "writers"


def test_an_address_is_free_again_once_its_pool_has_ended() -> None:
    """The next pool of the process has it, be it started right away."""
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        address = address_of(pool)
    for _ in range(3):
        with AgentPool.start([Member("a", str.upper)], status=str(address)) as pool:
            assert get(address, "/healthz").status == 200
    eventually(lambda: gone(address))


def test_b421_who_waits_for_a_name_server_holds_up_no_other_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither its start nor its end."""
    asked, answered, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "slow.test":
            asked.set()
            assert answered.wait(WAIT_S)
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    places: list[endpoints.StatusPlace] = []
    address = StatusAddress("slow.test", 0)
    starts = threading.Thread(target=lambda: places.append(endpoints.StatusPlace(address)))
    starts.start()
    assert asked.wait(WAIT_S)
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        assert get(address_of(pool), "/healthz").status == 200
    answered.set()
    starts.join(WAIT_S)
    places[0].leave()


def test_b421_who_stops_reading_while_a_pool_comes_is_told_nothing_by_it() -> None:
    """Its events would be made for nobody, for as long as it lives."""
    shown = board.Board()

    class Comes:
        """A pool in whose `add_reader` the reader comes to its end."""

        def __init__(self) -> None:
            self.readers: list[EventBuffer] = []

        def add_reader(self, reader: EventBuffer) -> None:
            reading.__exit__(None, None, None)
            self.readers.append(reader)

        def remove_reader(self, reader: EventBuffer) -> None:
            if reader in self.readers:
                self.readers.remove(reader)

    reading, pool = shown.reading(everything=True), Comes()
    assert reading.__enter__() is not None
    shown.add(cast(WatchedPool, pool))
    assert pool.readers == []


def test_b421_a_large_answer_may_take_longer() -> None:
    """A client that takes it slowly, but goes on, has it whole; one that takes next to nothing is
    let go: it has one of few connections.
    """
    timeouts: list[float | None] = []

    class Connection:
        def settimeout(self, value: float | None) -> None:
            timeouts.append(value)

        def sendall(self, data: bytes) -> None: ...

    sink = status_server._Sink(cast(socket.socket, Connection()))
    for size in (100, 10_000_000):
        assert sink.write(b"x" * size) == size
    small, large = timeouts
    assert small == pytest.approx(status_server.SEND_S, abs=0.1)
    assert large == pytest.approx(status_server.SEND_S + 10_000_000 / status_server.SLOWEST_PER_S)


def test_an_address_in_use_is_refused_at_the_start() -> None:
    """With the field, the address and the reason; no pool is left behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"status must be .* got '{address}': ") as caught:
            AgentPool.start([Member("a", str.upper)], status=address, name="refused")
    assert caught.value.errno == errno.EADDRINUSE
    with AgentPool.start([Member("a", str.upper)], name="refused") as pool:
        assert pool.name == "refused"
        assert pool.status_url is None


def test_a_pool_that_cannot_start_leaves_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it fails by, after the address was taken."""

    def refuse(**_: object) -> None:
        raise RuntimeError("no supervisor today")

    monkeypatch.setattr("greenroom.pool.agent_pool.PoolSupervisor.start", refuse)
    with pytest.raises(RuntimeError, match="no supervisor today"):
        AgentPool.start([Member("a", str.upper)], status=ANY)
    eventually(lambda: not endpoints._endpoints)


@posix
def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    """Any `Host` will do there, no browser gets to it; the file goes with the pool."""
    path = tmp_path / "x.sock"
    with AgentPool.start([Member("a", str.upper)], status=path) as pool:
        assert pool.status_url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert get(address_of(pool), "/healthz", host="whatever").status == 200
        with pytest.raises(OSError, match="in use"):
            status_server._listening(StatusAddress(path=str(path)), None)
    eventually(lambda: not path.exists())


@posix
def test_what_a_crashed_process_has_left_is_taken_away(tmp_path: Path) -> None:
    """A socket that nobody listens at; but no file of another kind."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with AgentPool.start([Member("a", str.upper)], status=path) as pool:
        assert get(address_of(pool), "/healthz").status == 200
    eventually(lambda: not path.exists())
    path.write_text("something of value")
    with pytest.raises(OSError, match="no socket"):
        AgentPool.start([Member("a", str.upper)], status=path)
    assert path.read_text() == "something of value"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_child_of_a_fork_keeps_no_address() -> None:
    """The endpoint is its parent's: the child's descriptors are closed, and a pool of its own may
    have one elsewhere.
    """
    with AgentPool.start([Member("a", str.upper)], status=ANY) as pool:
        address = address_of(pool)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = b"wrong"
            try:
                with AgentPool.start([Member("a", str.upper)], status=ANY) as own:
                    if (
                        address_of(own) != address
                        and get(address_of(own), "/healthz").status == 200
                    ):
                        code = b"right"
            finally:
                os.write(writing, code)
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as said:
            assert said.read() == b"right"
        os.waitpid(child, 0)
        assert get(address, "/healthz").status == 200


# -- a pool that does not answer


class Holding:
    """A strategy that takes its time, in the router's own thread."""

    def __init__(self) -> None:
        self.begun, self.going_on = threading.Event(), threading.Event()

    def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
        self.begun.set()
        self.going_on.wait(WAIT_S)
        return candidates[0]


def test_a_pool_that_is_stuck_is_shown_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the limit, however many ask: the pool is asked once. What is free again answers."""
    strategy = Holding()
    members = [Member("a", str.upper), Member("b", str.upper)]
    with AgentPool.start(members, strategy=strategy, status=ANY, name="writers") as pool:
        address = address_of(pool)
        (endpoint,) = endpoints._endpoints
        monkeypatch.setattr(endpoint.board, "_answer_s", 0.05)
        answer = pool.ask(Request("x"), block=False)
        assert strategy.begun.wait(WAIT_S)
        health = get(address, "/healthz")
        assert (health.status, health.text) == (503, "does not answer: writers\n")
        assert get(address, "/readyz").text == "writers: does not answer\n"
        (said,) = get(address, "/status.json").json()["pools"]
        assert said == {
            "name": "writers",
            "answers": False,
            "waited_s": 0.05,
            "can_serve": False,
            "members": [],
        }
        assert 'greenroom_up{pool="writers"} 0.0' in get(address, "/metrics").text
        assert endpoint.board._pools[0].ask() is endpoint.board._pools[0].ask()  # one question
        monkeypatch.setattr(endpoint.board, "_answer_s", WAIT_S)
        strategy.going_on.set()
        assert get(address, "/healthz").status == 200
        assert answer.get(timeout=WAIT_S).value == "X"


# -- events


def test_events_come_as_they_happen(pool: PoolRef) -> None:
    """As the log writes them in JSON, those of requests as well."""
    with events_of(address_of(pool)) as events:
        pool.execute("x")
        names = [next(events)["event"] for _ in range(3)]
        assert names == ["attempt.started", "attempt.succeeded", "request.completed"]
        pool.force_open("a")
        opened = next(each for each in events if each["event"] == "breaker.opened")
    assert opened["pool"] == "writers"
    assert opened["member"] == "a"
    assert opened["level"] == "ERROR"
    assert opened["message"].startswith("breaker opened: forced by hand; stays open until it is re")
    assert datetime.fromisoformat(opened["ts"]).tzinfo is not None


def test_events_of_members_alone_leave_requests_their_quick_way(pool: PoolRef) -> None:
    """Who reads nothing, or only of members, makes no event of any request."""
    bus = pool_names._taken[pool.name]()
    assert bus is not None
    address = address_of(pool)
    assert bus.unread()
    with events_of(address, "/events?only=members") as events:
        pool.execute("x")
        pool.force_open("b")
        assert next(events)["event"] == "breaker.opened"
        assert bus.unread()
        with events_of(address) as everything:
            pool.execute("x")
            assert next(everything)["event"] == "attempt.started"
            assert not bus.unread()
    eventually(bus.unread)  # it is noticed that the reader has gone


def test_only_says_members_or_nothing(pool: PoolRef) -> None:
    """Another word is refused."""
    assert get(address_of(pool), "/events?only=some").status == 400


def test_readers_of_events_are_bounded(pool: PoolRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes on top is told when to try again."""
    monkeypatch.setattr(board, "READERS", 1)
    with events_of(address_of(pool)):
        busy = get(address_of(pool), "/events")
        assert (busy.status, busy.headers["Retry-After"]) == (503, "5")


def test_a_slow_reader_loses_events_and_is_told_how_many(
    pool: PoolRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool waits for nobody."""
    held, going_on = threading.Event(), threading.Event()
    take = EventBuffer.take

    def slow(buffer: EventBuffer, timeout_s: float) -> Any:
        held.set()
        going_on.wait(WAIT_S)
        return take(buffer, timeout_s)

    monkeypatch.setattr(EventBuffer, "take", slow)
    monkeypatch.setattr(EventBuffer.__init__, "__defaults__", (3, 1_000))
    with events_of(address_of(pool), "/events?only=members") as events:
        assert held.wait(WAIT_S)
        for name in ("a", "b", "a", "b", "a"):
            pool.force_open(name)
            pool.reset_member(name)
        going_on.set()
        first = [next(events) for _ in range(3)]
        assert all("lost" not in each for each in first)
        pool.force_open("b")
        assert next(events)["lost"] > 0
        assert next(events)["event"] == "breaker.opened"


def test_a_reader_has_the_events_of_pools_that_come_later(pool: PoolRef) -> None:
    """And comes to its end with the last pool."""
    address = address_of(pool)
    with events_of(address, "/events?only=members") as events:
        with AgentPool.start([Member("c", str.upper)], status=str(address), name="later") as later:
            later.force_open("c")
            opened = next(each for each in events if each["event"] == "breaker.opened")
            assert (opened["pool"], opened["member"]) == ("later", "c")
        pool.stop()
        left = [each["event"] for each in events]
    assert "pool.stopped" in left


@pytest.mark.parametrize("path", ["/events", "/events?only=members"])
def test_the_last_events_of_a_pool_reach_who_reads_late(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the endpoint has ended by then."""
    take, stop = EventBuffer.take, status_server.StatusServer.stop
    reads, ended = threading.Event(), threading.Event()

    def late(buffer: EventBuffer, timeout_s: float) -> Any:
        reads.set()
        ended.wait(WAIT_S)
        return take(buffer, timeout_s)

    def told(server: status_server.StatusServer) -> None:
        stop(server)
        ended.set()

    monkeypatch.setattr(EventBuffer, "take", late)
    monkeypatch.setattr(status_server.StatusServer, "stop", told)
    pool = AgentPool.start([Member("a", str.upper)], status=ANY)
    with events_of(address_of(pool), path) as events:
        assert reads.wait(WAIT_S)
        pool.stop()
        assert "pool.stopped" in [each["event"] for each in events]


def test_an_idle_endpoint_has_one_thread_more(pool: PoolRef) -> None:
    """Which waits for connections; nothing else is kept for it."""
    eventually(lambda: _threads() == ["greenroom-status"])
    assert get(address_of(pool), "/healthz").status == 200
    eventually(lambda: _threads() == ["greenroom-status"])


def _threads() -> list[str]:
    named = (each.name for each in threading.enumerate())
    return [name for name in named if name.startswith(("greenroom-status", "greenroom-events"))]

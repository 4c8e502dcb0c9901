"""Both ends of NATS in one loop, a real server between them, and a desk that does as it is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers_nats import free_port, nats_server, needs_nats
from helpers_remote import in_a_loop, until
from helpers_tls import certificate

from greenroom.brokers.nats_address import nats_address
from greenroom.brokers.nats_client import BrokerError, NatsConnection
from greenroom.messages.errors import ResourceError
from greenroom.remote.codec import MOST_BYTES, Codec, JsonCodec, codec_for
from greenroom.remote.frames import (
    Busy,
    Call,
    Cancel,
    Chunk,
    End,
    Error,
    Go,
    MayStart,
    Ping,
    Pong,
    ToCaller,
    ToWorker,
    Value,
)
from greenroom.remote.links import EngineAway, Send, WorkerGone
from greenroom.remote.nats_call import NatsCall
from greenroom.remote.nats_front import NatsFront
from greenroom.remote.nats_link import NatsLink, NatsWorkerLink
from greenroom.remote.nats_liveness import LATE_S
from greenroom.remote.nats_wire import Sender, Told, read_to_caller, to_worker

PLAIN = JsonCodec()


class Running:
    """A call as the desk below has it.

    Attributes:
        heard_of: what its caller has said.
        is_gone: whether that is gone.
    """

    def __init__(self, call: Call, send: Send, on_end: Callable[[], None]) -> None:
        self.call = call
        self.send = send
        self.on_end = on_end
        self.heard_of: list[ToWorker] = []
        self.is_gone = False

    def heard(self, frame: ToWorker) -> None:
        self.heard_of.append(frame)

    def gone(self) -> None:
        self.is_gone = True

    async def end(self, frame: ToCaller) -> None:
        await self.send(frame)
        self.on_end()


class Desk:
    """Answers what is called `echo`, and has all else wait for the test."""

    def __init__(self, member: str = "w") -> None:
        self.member = member
        self.calls: dict[str, Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, call: Call, send: Send, *, on_end: Callable[[], None]) -> Running:
        running = self.calls[call.id] = Running(call, send, on_end)
        if isinstance(call.payload, list) and call.payload[0] == "echo":
            task = asyncio.ensure_future(running.end(Value(call.id, call.payload[1])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return running

    def pong(self, unknown: tuple[str, ...] = ()) -> Pong:
        return Pong(self.member, 7, len(self.calls), False, unknown)


class World:
    """A server, a worker and a way to it.

    Attributes:
        away: what the caller was told of the server.
    """

    def __init__(self, url: str, max_frame_bytes: int = MOST_BYTES) -> None:
        self.url = url
        self.desk = Desk()
        self.front = NatsFront(url, max_frame_bytes=max_frame_bytes)
        self.away: list[bool] = []
        self.ways: list[NatsWorkerLink] = []

    def way(self, format: str = "json", url: str = "") -> NatsWorkerLink:
        made = NatsLink(url or self.url, codec_for(format)).connect(on_away=self.away.append)
        self.ways.append(made)
        return made

    async def begun(self, way: NatsWorkerLink, id: str) -> Any:
        """A call that has come there; both of its ends."""
        call = await way.open(Call(id, "waits"))
        await until(lambda: id in self.desk.calls)
        return call, self.desk.calls[id]

    async def close(self) -> None:
        for each in self.ways:
            await each.close()
        await self.front.close()


@asynccontextmanager
async def world(
    folder: Path, *options: str, config: str = "", max_frame_bytes: int = MOST_BYTES
) -> AsyncIterator[World]:
    port = free_port()
    with nats_server(folder, port, *options, config=config):
        made = World(f"nats://127.0.0.1:{port}/work.one", max_frame_bytes)
        await made.front.listen(made.desk)
        try:
            yield made
        finally:
            await made.close()


@in_a_loop
async def test_b455_calls_by_nats_come_there_and_answers_back(tmp_path: Path) -> None:
    """In either format; two million bytes go in parts, both ways; a stream comes in order."""
    async with world(tmp_path) as at:
        for format in ("json", "msgpack"):
            way = at.way(format)
            for value in ("hi", {"a": [1, 2.5, None]}, "é" * 1_000_000):
                call = await way.open(Call(f"{format}-{len(str(value))}", ["echo", value]))
                answer = await call.receive()
                assert isinstance(answer, Value)
                assert answer.value == value
                await call.close()
        call, there = await at.begun(at.way(), "s")
        for number in range(100):
            await there.send(Chunk("s", number, "x" * 50_000))
        await there.end(End("s", 100))
        assert [getattr(await call.receive(), "number", None) for _ in range(100)] == [*range(100)]
        assert await call.receive() == End("s", 100)
        assert (await at.way().ask(5.0)).capacity == 7
        assert at.away == []


@in_a_loop
async def test_b455_what_is_said_of_a_call_comes_there_and_its_end_by_the_caller(
    tmp_path: Path,
) -> None:
    """Of one that was closed the worker is told."""
    async with world(tmp_path) as at:
        call, there = await at.begun(at.way(), "c")
        await there.send(MayStart("c"))
        assert await call.receive() == MayStart("c")
        await call.send(Go("c"))
        await until(lambda: there.heard_of == [Go("c")])
        await call.close()
        await until(lambda: there.heard_of == [Go("c"), Cancel("c")])


@in_a_loop
async def test_b455_all_members_of_a_loop_have_one_connection_and_the_last_one_ends_it(
    tmp_path: Path,
) -> None:
    """What one of them has open ends with it, and with nobody else."""
    async with world(tmp_path) as at:
        one, two = at.way(), at.way()
        assert one._hub is two._hub
        first, _ = await at.begun(one, "1")
        second, there = await at.begun(two, "2")
        await one.close()
        with pytest.raises(EngineAway):
            await first.receive()
        with pytest.raises(EngineAway):
            await one.open(Call("3", "x"))
        await there.end(Value("2", "still there"))
        assert await second.receive() == Value("2", "still there")
        await two.close()
        assert two._hub.broker.connection is None
        assert at.way()._hub is not two._hub


@in_a_loop
async def test_b456_where_nobody_listens_it_is_said_at_once(tmp_path: Path) -> None:
    """Nothing was begun, and the server is not away."""
    async with world(tmp_path) as at:
        way = at.way(url=f"{at.url}.nobody")
        with pytest.raises(WorkerGone, match=r"no worker listens at work.one.nobody") as gone:
            await way.open(Call("1", "x"))
        assert not gone.value.reached
        with pytest.raises(WorkerGone):
            await way.ask(5.0)
        assert at.away == []


@in_a_loop
async def test_b456_a_second_worker_at_a_subject_is_refused(tmp_path: Path) -> None:
    """It says who is there; one that drains is followed."""
    async with world(tmp_path) as at:
        second = NatsFront(at.url)
        with pytest.raises(ResourceError, match=r"another worker does, with the member 'w'"):
            await second.listen(Desk())
        await at.front.refuse()
        second, follower = NatsFront(at.url), Desk("next")
        await second.listen(follower)
        try:
            way = at.way()
            call = await way.open(Call("1", ["echo", "hi"]))
            assert await call.receive() == Value("1", "hi")
            assert list(follower.calls) == ["1"]
        finally:
            await second.close()


@in_a_loop
async def test_b456_calls_of_a_worker_that_dies_end_and_those_of_one_that_drains_do_not(
    tmp_path: Path,
) -> None:
    """That a message finds nobody is looked into at once; a follower is called as soon as it is
    there.
    """
    async with world(tmp_path) as at:
        way = at.way()
        call, there = await at.begun(way, "old")
        await at.front.refuse()
        busy = await way.open(Call("new", "x"))
        assert await busy.receive() == Busy("new", draining=True)
        assert "new" not in at.desk.calls
        await there.end(Value("old", "in the end"))
        assert await call.receive() == Value("old", "in the end")
    async with world(tmp_path) as at:
        way = at.way()
        call, _ = await at.begun(way, "lost")
        await at.front.close()
        with pytest.raises(WorkerGone):  # the server has seen that it is gone
            while True:
                await way.ask(5.0)
        worker = way._place._worker
        assert worker is not None
        late = NatsCall(way._hub, worker, "late", lambda _: None)
        await worker.say(PLAIN.encode(Call("late", "x")), late)
        with pytest.raises(WorkerGone) as gone:
            await late.receive()
        assert not gone.value.reached
        with pytest.raises(WorkerGone) as gone:
            await way.open(Call("next", "x"))
        assert not gone.value.reached
        with pytest.raises(WorkerGone) as lost:
            await call.receive()
        assert lost.value.reached
        at.front = NatsFront(at.url)
        await at.front.listen(at.desk)
        again = await way.open(Call("again", ["echo", 1]))
        assert await again.receive() == Value("again", 1)


@in_a_loop
async def test_b457_a_call_that_was_held_up_on_its_way_is_not_begun(tmp_path: Path) -> None:
    """Nor one whose caller would not wait any more: who has sent it has given it up."""
    async with world(tmp_path) as at:
        place = nats_address("url", at.url, subject=True)
        connection = await NatsConnection.open(place, name="by hand")
        heard: list[bytes] = []
        inbox = connection.new_inbox()
        await connection.subscribe(inbox, lambda message: heard.append(message.data))

        async def say(frame: ToWorker, told: Told, subject: str, late_s: float) -> Any:
            sender = Sender(b"by hand ", 1, told.stamp - late_s, 0.0)
            (message,) = to_worker(sender, PLAIN.encode(frame), 10_000)
            await connection.publish(subject, message, inbox)
            await until(lambda: heard)
            found, _, rest = read_to_caller(heard.pop(0))
            return found, PLAIN.to_caller(rest)

        told, pong = await say(Ping("by hand"), Told(0.0, ""), "work.one", 0.0)
        assert pong.member == "w"
        private = told.private
        late = Call("late", ["echo", 1])
        assert (await say(late, told, private, LATE_S + 0.1))[1] == Busy("late")
        short = Call("short", ["echo", 1], left_s=0.5)
        assert (await say(short, told, private, 0.6))[1] == Busy("short")
        told, _ = await say(Ping("by hand"), Told(0.0, ""), "work.one", 0.0)
        now = Call("now", ["echo", 1], left_s=60.0)
        assert (await say(now, told, private, 0.0))[1] == Value("now", 1)
        assert list(at.desk.calls) == ["now"]
        await connection.close()


@in_a_loop
async def test_b457_what_the_worker_does_not_know_ends_and_what_its_caller_does_not_is_cancelled(
    tmp_path: Path,
) -> None:
    """Each end is told by the pings, whatever was lost on the way."""
    async with world(tmp_path) as at:
        way = at.way()
        known, _ = await at.begun(way, "known")
        forgotten, there = await at.begun(way, "forgotten")
        there.on_end()  # its answer has been lost
        with pytest.raises(WorkerGone, match="knows nothing of the call") as gone:
            await forgotten.receive()
        assert gone.value.reached
        orphan, there = await at.begun(way, "orphan")
        orphan.fail(WorkerGone("by the test", reached=True))  # and nobody is told
        await until(lambda: there.is_gone)
        assert not at.desk.calls["known"].is_gone
        await at.desk.calls["known"].end(Value("known", 1))
        assert await known.receive() == Value("known", 1)


@pytest.mark.parametrize(("calls", "most_bytes"), [(12_000, 64 * 1024 * 1024), (200, 1024)])
def test_b457_a_caller_asks_about_more_calls_than_one_ping_or_a_payload_holds(
    calls: int, most_bytes: int, tmp_path: Path
) -> None:
    """None of them is lost, and one that its caller does not want any more is cancelled."""

    async def test() -> None:
        async with world(tmp_path, max_frame_bytes=most_bytes) as at:
            way = at.way()
            opened = [await way.open(Call(f"call-{n}", "waits")) for n in range(calls)]
            await until(lambda: len(at.desk.calls) == calls)
            worker = way._place._worker
            assert worker is not None
            heard: list[Pong] = []
            listened = worker.heard

            def hears(told: Told, pong: Pong) -> None:
                heard.append(pong)
                listened(told, pong)

            worker.heard = hears  # type: ignore[method-assign]
            await until(lambda: len(heard) > 4)
            assert all(call.error is None for call in opened)
            orphan = opened[calls // 2]
            orphan.fail(WorkerGone("by the test", reached=True))  # and nobody is told
            await until(lambda: at.desk.calls[orphan.id].is_gone)
            assert [id for id, call in at.desk.calls.items() if call.is_gone] == [orphan.id]

    in_a_loop(test)()


@in_a_loop
async def test_b453_what_a_worker_does_not_understand_it_declines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payload that is too long for it is the request's fault, in one message or in parts; one in
    a format that it lacks is not. Neither has begun, and a call that has goes on.
    """
    lacks = {"msgpack"}

    def codec(name: str, most_bytes: int) -> Codec:
        if name in lacks:
            raise ModuleNotFoundError("format='msgpack' needs msgpack")
        return codec_for(name, most_bytes)

    monkeypatch.setattr("greenroom.remote.nats_front.codec_for", codec)
    async with world(tmp_path, max_frame_bytes=2048) as at:
        plain, packed = at.way(), at.way("msgpack")
        running, there = await at.begun(plain, "runs")
        for way, size, kind, why in (
            (plain, 3_000, "too_large", "too long for the worker"),
            (plain, 3_000_000, "too_large", "too long for the worker"),
            (packed, 10, "unavailable", "needs msgpack"),
        ):
            call = await way.open(Call(f"of {size}", "x" * size))
            said = await call.receive()
            assert isinstance(said, Error)
            assert (said.kind, said.started) == (kind, False)
            assert why in said.text
            await call.close()
        lacks.clear()
        packed_call = await packed.open(Call("long", "x" * 3_000))
        said = await packed_call.receive()
        assert isinstance(said, Error)
        assert said.kind == "too_large"
        assert list(at.desk.calls) == ["runs"]
        await there.end(Value("runs", 1))
        assert await running.receive() == Value("runs", 1)


@in_a_loop
async def test_b458_without_a_server_nothing_is_sent_and_nobody_waits(tmp_path: Path) -> None:
    """It is told once that it is away, and once that it is back; then calls go there."""
    needs_nats()
    port = free_port()
    at = World(f"nats://127.0.0.1:{port}/work.one")
    with pytest.raises(OSError, match=r"cannot listen at nats://127\.0\.0\.1"):
        await at.front.listen(at.desk)
    way = at.way()
    for _ in range(3):
        with pytest.raises(EngineAway, match="the broker is away") as away:
            await way.open(Call("1", "x"))
        assert not away.value.reached
    assert at.away == [True]
    late = at.way()
    assert at.away == [True, True]  # it is told, too
    with nats_server(tmp_path, port):
        at.front = NatsFront(at.url)
        await at.front.listen(at.desk)
        await until(lambda: at.away == [True, True, False, False])
        call = await late.open(Call("2", ["echo", 1]))
        assert await call.receive() == Value("2", 1)
        await at.close()


@in_a_loop
async def test_b458_a_server_that_is_killed_ends_all_calls_and_delivers_none_of_them_later(
    tmp_path: Path,
) -> None:
    """The worker and the caller are connected again; what the worker has to say meanwhile waits."""
    needs_nats()
    port = free_port()
    at = World(f"nats://127.0.0.1:{port}/work.one")
    with nats_server(tmp_path, port):
        await at.front.listen(at.desk)
        way = at.way()
        calls = [(await at.begun(way, str(number)))[0] for number in range(20)]
    for number, call in enumerate(calls):
        with pytest.raises(EngineAway) as away:
            await call.receive()
        assert away.value.reached, number
    for number in range(20):
        with pytest.raises(EngineAway) as away:
            await way.open(Call(f"while away {number}", ["echo", 1]))
        assert not away.value.reached
    with nats_server(tmp_path, port):
        await until(lambda: at.away[-1:] == [False])

        # Whoever was away is missed by nobody before its worker is connected again.
        call = await way.open(Call("after", ["echo", 1]))
        assert await call.receive() == Value("after", 1)
        # The worker has been told what is still wanted: nothing of all that.
        await until(lambda: all(at.desk.calls[str(number)].is_gone for number in range(20)))
        assert set(at.desk.calls) == {*map(str, range(20)), "after"}
        assert at.away == [True, False]
        await at.close()


@in_a_loop
async def test_b459_who_may_not_enter_is_told_so_and_shown_no_password(tmp_path: Path) -> None:
    """With a user, with a token; one who may not ask there hears what the server says of it."""
    users = (
        "authorization { users = ["
        '{user: me, password: "s3cret"}, '
        '{user: mute, password: "s3cret", permissions: {publish: "elsewhere"}}] }'
    )
    port = free_port()
    with nats_server(tmp_path, port, config=users):
        place = f"127.0.0.1:{port}/work.one"
        at = World(f"nats://me:s3cret@{place}")
        await at.front.listen(at.desk)
        assert (await at.way().ask(5.0)).member == "w"
        wrong = at.way(url=f"nats://me:wr0ng@{place}")
        with pytest.raises(EngineAway, match=r"(?i)authorization violation") as refused:
            await wrong.open(Call("1", "x"))
        assert "wr0ng" not in str(refused.value)
        mute = at.way(url=f"nats://mute:s3cret@{place}")
        with pytest.raises(WorkerGone, match=r"(?i)permissions violation"):
            await mute.ask(1.0)
        await at.close()


@in_a_loop
async def test_b459_a_server_without_tls_is_told_no_password_where_tls_is_demanded(
    tmp_path: Path,
) -> None:
    """nats-py would tell it."""
    port = free_port()
    log = tmp_path / "log"
    with nats_server(tmp_path, port, "-DV", "-l", str(log), "--user", "me", "--pass", "s3cret"):
        for who in ("me:s3cret@", "s3cret@"):
            place = nats_address("url", f"tls://{who}127.0.0.1:{port}/w", subject=True)
            with pytest.raises(BrokerError, match="no TLS"):
                await NatsConnection.open(place, name="by hand")
        assert not {'"pass"', '"auth_token"'} & _said_at(log)
        place = nats_address("url", f"nats://me:s3cret@127.0.0.1:{port}/w", subject=True)
        await (await NatsConnection.open(place, name="by hand")).close()
        assert '"pass"' in _said_at(log)


def _said_at(log: Path) -> set[str]:
    """The names of fields that clients have sent: the values of passwords are not logged."""
    return set(re.findall(r'"[a-z_]+"(?=:)', log.read_text()))


@in_a_loop
async def test_b459_by_tls_to_a_server_whose_certificate_is_known(tmp_path: Path) -> None:
    """To one whose is not, nothing is said."""
    cert, key = certificate(tmp_path)
    port = free_port()
    tls = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}'
    with nats_server(tmp_path, port, "--user", "me", "--pass", "s3cret", config=tls):
        at = World(f"tls://me:s3cret@127.0.0.1:{port}/work.one?ca={cert}")
        await at.front.listen(at.desk)
        call = await at.way().open(Call("1", ["echo", "x" * 2_000_000]))
        assert isinstance(await call.receive(), Value)
        unknown = nats_address("url", f"tls://me:s3cret@127.0.0.1:{port}/w", subject=True)
        with pytest.raises(BrokerError, match=r"(?i)certificate"):
            await NatsConnection.open(unknown, name="by hand")
        await at.close()

"""nats-py at both ends, as one writes it by hand: no pool, no pings, no credit, no deadline."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats

from benchmarks.measure import AsyncAsk
from benchmarks.peers.base import Peer, Stream
from benchmarks.remote_server import broker, server

PATIENCE_S = 60.0


class BareNats(Peer):
    """A connection, a request a call."""

    @asynccontextmanager
    async def remote_nats(self) -> AsyncIterator[tuple[AsyncAsk, Stream]]:
        with broker() as listen, server("nats", listen):
            place, _, subject = listen.rpartition("/")
            connection = await nats.connect(place)

            async def ask(i: int) -> Any:
                said = json.dumps({"payload": i}).encode()
                answer = await connection.request(subject, said, timeout=PATIENCE_S)
                return json.loads(answer.data)["value"]

            async def stream(n: int) -> AsyncIterator[Any]:
                inbox = connection.new_inbox()
                subscription = await connection.subscribe(inbox)
                said = json.dumps({"payload": n}).encode()
                await connection.publish(f"{subject}.stream", said, reply=inbox)
                async for message in subscription.messages:
                    if not message.data:
                        break
                    yield json.loads(message.data)["value"]
                await subscription.unsubscribe()

            try:
                yield ask, stream
            finally:
                await connection.close()

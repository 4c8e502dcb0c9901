#!/usr/bin/env bash
# aiohttp 3.14.5: a response that the server cuts short raises ClientPayloadError, and the error that
# this was raised from has `code` 400, though the server had answered 200 and the client had done
# nothing wrong.
#
# Guess before running: an OSError or a ConnectionResetError behind it, without any HTTP status.
# Seen: ContentLengthError / TransferEncodingError with code 400: the parser's errors stem from
#   BadHttpMessage, which is the server side's "400 Bad Request".
# So code that walks `__cause__` in search of a status takes a cut connection for the caller's fault,
# and does not try again. The outer error itself has neither `status` nor `code`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check aiohttp==3.14.5 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio

import aiohttp

CUT = {
    "content-length: 100": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
}


async def raised(answer: bytes) -> BaseException:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                assert response.status == 200
                await response.read()
    except aiohttp.ClientError as error:
        return error
    finally:
        server.close()
    raise SystemExit("nothing was raised")


async def main() -> None:
    print("aiohttp", aiohttp.__version__)
    for what, answer in CUT.items():
        error = await raised(answer)
        cause = error.__cause__
        print(f"{what}: {type(error).__name__} from {type(cause).__name__}, code {cause.code}")
        assert type(error).__name__ == "ClientPayloadError"
        assert not hasattr(error, "status") and not hasattr(error, "code")
        assert cause.code == 400


asyncio.run(main())
PY

#!/usr/bin/env bash
# grpcio 1.85.3, grpc.aio: when a channel is closed, a call that is under way on it raises
# asyncio.CancelledError in a task that nobody has cancelled.
#
# Guess before running: an AioRpcError with StatusCode.CANCELLED or UNAVAILABLE, as the sync API does.
# Seen: a bare CancelledError: no `Exception`, no code(), and the task's `cancelling()` is 0. The sync
#   API raises an RpcError with CANCELLED in the same situation.
# So `except Exception` lets it pass, a TaskGroup takes the task for cancelled and drops the failure
# silently, and a retry around the call never sees that its connection was taken away.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check grpcio==1.85.3 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import threading

import grpc
from grpc import aio


async def main() -> None:
    print("grpcio", grpc.__version__)
    entered = asyncio.Event()

    async def never(request: bytes, context: object) -> bytes:
        entered.set()
        await asyncio.Event().wait()
        return b""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: object) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(never)

    server = aio.server()
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    channel = aio.insecure_channel(f"127.0.0.1:{port}")

    async def call() -> tuple[BaseException, int]:
        try:
            await channel.unary_unary("/a/b")(b"x")
        except BaseException as error:
            return error, asyncio.current_task().cancelling()
        raise SystemExit("nothing was raised")

    task = asyncio.create_task(call())
    await entered.wait()
    await channel.close()
    error, cancelling = await asyncio.wait_for(task, 10)
    print(f"aio: {type(error).__name__}, cancelling() {cancelling}")
    assert type(error) is asyncio.CancelledError
    assert not isinstance(error, Exception)
    assert cancelling == 0

    entered.clear()
    with_threads = grpc.insecure_channel(f"127.0.0.1:{port}")
    seen: list[BaseException] = []

    def blocking() -> None:
        try:
            with_threads.unary_unary("/a/b")(b"x")
        except BaseException as raised:
            seen.append(raised)

    thread = threading.Thread(target=blocking)
    thread.start()
    await entered.wait()
    with_threads.close()
    await asyncio.to_thread(thread.join, 10)
    print(f"sync: {type(seen[0]).__name__}, {seen[0].code()}")
    assert isinstance(seen[0], grpc.RpcError)
    assert seen[0].code() is grpc.StatusCode.CANCELLED
    await server.stop(0)


asyncio.run(main())
PY

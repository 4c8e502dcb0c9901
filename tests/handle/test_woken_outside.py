"""Who waits for the first chunk of a stream is woken where nobody else is held up by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from helpers_pools import WAIT_S, pool_of

from greenroom import Member, Request


def chunks(payload: Any) -> Iterator[Any]:
    yield payload
    yield "end"


def test_a_done_callback_of_a_first_chunk_may_read_another_stream() -> None:
    """It runs in the worker that brings the chunk: neither the router nor another worker waits for
    it, so that the other stream begins, and ends, meanwhile.
    """
    read: list[Any] = []
    done = threading.Event()
    with pool_of(Member("a", chunks, max_concurrency=4)) as pool:

        def read_another(_: Any) -> None:
            read.extend(pool.stream(Request("other"), timeout=WAIT_S))
            done.set()

        go_on = threading.Event()

        def held(payload: Any) -> Iterator[Any]:
            assert go_on.wait(WAIT_S)
            yield from chunks(payload)

        pool.add_member(Member("held", held))
        pool.force_open("a")
        stream = pool.stream(Request("one"))
        stream.first().add_done_callback(read_another)
        pool.reset_member("a")
        go_on.set()
        assert done.wait(WAIT_S)
        assert list(stream) == ["one", "end"]
        assert pool.ask(Request("later"), timeout=WAIT_S).value == ["later", "end"]
    assert read == ["other", "end"]

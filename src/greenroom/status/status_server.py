"""The server of the status endpoint: few connections, short ones, and no thread while nobody asks
but the one that waits for them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from greenroom.actors.runtime.event_bus import complain
from greenroom.messages.errors import ResourceError
from greenroom.messages.events import Event
from greenroom.status import status_pages
from greenroom.status.board import Board
from greenroom.status.event_buffer import EventBuffer
from greenroom.status.plain_status import plain_event
from greenroom.status.status_address import StatusAddress, is_loopback, is_ours
from greenroom.status.status_pages import SAFETY, Answer, Events

CONNECTIONS = 32
"""At a time; who comes on top is told so, and let go."""
HEAD_S = 5.0
"""How long a client has to say what it wants, all of it."""
MOST_HEAD = 16_384
"""Bytes of that."""
SEND_S = 10.0
"""How long a client may take for an answer, or for the events that wait for it."""
SLOWEST_PER_S = 16_384.0
"""And so many of its bytes a second have to be taken: one of few connections is held by it."""
LOOK_S = 1.0
"""How often it is looked whether a reader of events has gone."""
KEEP_ALIVE = 15
"""After so many looks without an event a comment is sent: what is between may drop what is silent.
"""
BACKLOG = 32
FULL_S = 1.0
"""How long no further connection is taken where the process has no descriptor left."""
ENDING_S = 2.0

_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class StatusServer:
    """Listens as soon as it is made; takes connections from `start` to `stop`.

    Args:
        address: where; port 0 is a free one.
        board: what it shows.
        place: what `place_of` says of a host and a port; None of a unix socket.

    Attributes:
        address: where it listens, with its port.

    Raises:
        OSError: it cannot listen there; the text names the field and the address.
    """

    def __init__(self, address: StatusAddress, board: Board, place: Place | None) -> None:
        self._board = board
        self._listener = _listening(address, place)
        self._identity = _identity(address.path)
        self.address = address
        if address.path is None:
            self.address = replace(address, port=self._listener.getsockname()[1])
        # By what it is bound to: names and short forms stand for loopback as well.
        self._is_guarded = address.path is None and is_loopback(self._listener.getsockname()[0])
        self._listener.setblocking(False)
        self._waker, self._woken = socket.socketpair()
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take connections.

        Raises:
            ResourceError: the machine has no thread for it.
        """
        thread = threading.Thread(target=self._take_all, name="greenroom-status", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise ResourceError(f"the status endpoint has no thread: {error}") from error
        self._thread = thread

    def stop(self) -> None:
        """Listen no more. What is being answered still is, in threads that end by themselves."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(ENDING_S)
        path = self.address.path
        if path is not None and self._identity == _identity(path):  # else it is another one's
            with contextlib.suppress(OSError):
                os.unlink(path)
        self.forget()
        with self._lock:
            opened = list(self._open)
        for connection in opened:
            with contextlib.suppress(OSError):  # who has not said yet what it wants
                connection.shutdown(socket.SHUT_RD)

    def forget(self) -> None:
        """Let go of the descriptors: in a child of a fork the endpoint is its parent's."""
        for each in (self._listener, self._waker, self._woken):
            each.close()

    def _take_all(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                selector.select()
                if self._stopping:
                    return
                try:
                    self._take()
                except BaseException as error:  # the next one is taken all the same
                    complain("a connection of the status endpoint could not be taken", error)
                    self._rest()

    def _take(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._rest()  # it would be ready again at once
            return
        connection.settimeout(HEAD_S)
        if not self._places.acquire(blocking=False):
            with contextlib.suppress(OSError), connection:
                connection.setblocking(False)
                connection.send(_TOO_MANY)
            return
        try:
            threading.Thread(
                target=self._serve, args=(connection,), name="greenroom-status-client", daemon=True
            ).start()
        except BaseException:
            self._places.release()
            connection.close()
            raise

    def _rest(self) -> None:
        until = time.monotonic() + FULL_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping and (left := until - time.monotonic()) > 0:
                selector.select(left)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)
        try:
            _Exchange(connection, self.address.host if self._is_guarded else None, self._board)
        except OSError:
            pass  # the client has gone, or took too long
        except BaseException as error:
            complain("the status endpoint could not answer", error)
        finally:
            with self._lock:
                self._open.discard(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.close()
            self._places.release()


class _Exchange(BaseHTTPRequestHandler):
    """One request and its answer, by the standard library's reading of HTTP.

    Args:
        guarded: how loopback was called, where names of elsewhere are refused; None: none are.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, guarded: str | None, board: Board) -> None:
        self._guarded = guarded
        self._board = board
        # Its `__init__` is the whole exchange: `setup`, `handle`, `finish`.
        super().__init__(connection, ("", 0), None)  # type: ignore[arg-type]

    def setup(self) -> None:
        self.connection = self.request
        self.rfile = io.BufferedReader(io.BytesIO(_head(self.request)))
        self.wfile = _Sink(self.request)  # type: ignore[assignment]

    def handle(self) -> None:
        self.handle_one_request()  # one a connection: so few are open

    def __getattr__(self, name: str) -> Any:
        # Whatever the method is called, the library looks for `do_` and its name.
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def _refuse(self) -> None:
        said = status_pages.text(405, "this is read-only: GET and HEAD")
        self._send(replace(said, headers={"Allow": "GET, HEAD"}), is_head=False)

    def _answer(self, is_head: bool) -> None:
        host = self.headers.get("Host")
        if self._guarded is not None and not is_ours(host, self._guarded):
            self._send(status_pages.text(403, "this host is not the endpoint's"), is_head)
            return
        try:
            said = status_pages.answer(self._board, self.path, self.headers.get("Accept") or "")
        except Exception as error:
            complain("the status endpoint could not answer", error)
            said = status_pages.text(500, "the answer could not be made; the log says why")
        if isinstance(said, Answer):
            self._send(said, is_head)
        else:
            self._send_events(said, is_head)

    def _send(self, said: Answer, is_head: bool) -> None:
        self._begin(said.status, said.content_type, said.headers, len(said.body))
        if not is_head:
            self.wfile.write(said.body)

    def _begin(
        self, status: int, content_type: str, headers: Any = (), length: int | None = None
    ) -> None:
        self.close_connection = True
        self.send_response_only(status, HTTPStatus(status).phrase)
        said = {**SAFETY, **dict(headers), "Content-Type": content_type, "Connection": "close"}
        if length is not None:
            said["Content-Length"] = str(length)
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_events(self, wanted: Events, is_head: bool) -> None:
        with self._board.reading(wanted.everything) as reader:
            if reader is None:
                busy = status_pages.text(503, "too many read events already")
                self._send(replace(busy, headers={"Retry-After": "5"}), is_head)
                return
            self._begin(200, "text/event-stream; charset=utf-8")
            if not is_head:
                self.wfile.write(b"retry: 2000\n\n")
                self._follow(reader)

    def _follow(self, reader: EventBuffer) -> None:
        silent = 0
        while (taken := reader.take(LOOK_S)) is not None:
            # The end of the endpoint looks as if the client had gone: its last events are still
            # sent. In this order, since the reader is closed before the connection is.
            if self._has_gone() and not reader.closed:
                return
            silent = 0 if taken else silent + 1
            if taken:
                self.wfile.write("".join(map(_lines_of, taken)).encode("utf-8", "replace"))
            elif silent % KEEP_ALIVE == 0:
                self.wfile.write(b": nothing has happened\n\n")

    def _has_gone(self) -> bool:
        """Whether the client has closed its end."""
        self.request.setblocking(False)
        try:
            said: bytes = self.request.recv(1024)  # what it says is of no interest
            return not said
        except BlockingIOError:
            return False
        finally:
            self.request.settimeout(SEND_S)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library says of a request that it cannot read, without repeating that."""
        self.command = self.command or "GET"
        self.request_version = self.protocol_version
        self._send(status_pages.text(code, HTTPStatus(code).phrase), is_head=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a scrape every few seconds is no news."""

    def finish(self) -> None:
        """Nothing is buffered."""


def _lines_of(taken: tuple[float, Event, int]) -> str:
    """An event as a server-sent one; before it, how many were lost there."""
    at, event, lost = taken
    told = f'event: lost\ndata: {{"lost": {lost}}}\n\n' if lost else ""
    return f"{told}data: {json.dumps(plain_event(event, at), ensure_ascii=False)}\n\n"


class _Sink(io.RawIOBase):
    """Sends all of what is written."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        # That of `sendall` is the time for all of it, not for each byte.
        self._connection.settimeout(SEND_S + len(data) / SLOWEST_PER_S)
        self._connection.sendall(data)
        return len(data)


def _head(connection: socket.socket) -> bytes:
    """All that a client says before its body, which nobody reads.

    Raises:
        OSError: it does not get to the end in time, or says too much.
    """
    until = time.monotonic() + HEAD_S
    said = b""
    while b"\r\n\r\n" not in said and b"\n\n" not in said:
        left = until - time.monotonic()
        if left <= 0 or len(said) > MOST_HEAD:
            raise TimeoutError("the client has not said what it wants")
        connection.settimeout(left)
        more = connection.recv(4096)
        if not more:
            raise ConnectionError("the client has left")
        said += more
    return said


# -- where it listens


Place = tuple[socket.AddressFamily, Any]
"""A family of sockets, and an address of it."""


def place_of(address: StatusAddress) -> Place | None:
    """Where a host and a port are; None of a unix socket. A name server may take its time.

    Raises:
        OSError: nobody knows the host; the text names the field and the address.
    """
    if address.path is not None:
        return None
    with _named(address):
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    family, *_, place = found[0]
    return family, place


def _listening(address: StatusAddress, place: Place | None) -> socket.socket:
    with _named(address):
        if address.path is not None:
            return _bound_unix(address.path)
        assert place is not None
        return _bound_tcp(*place)


@contextlib.contextmanager
def _named(address: StatusAddress) -> Iterator[None]:
    """What the system refuses names the field and the address."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"status must be an address where this process can listen, got {str(address)!r}: "
            f"{error.strerror or error}",
        ) from error


def _bound_tcp(family: socket.AddressFamily, place: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _bound_unix(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no unix sockets")
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: str) -> None:
    """Take away what a process that has crashed left behind.

    Raises:
        OSError: somebody listens there, or it is no socket.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ENDING_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(path: str | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

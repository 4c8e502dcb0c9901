"""The endpoint itself: an ASGI app over a pool."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import traceback
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as WebRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.handle.pool_stream import PoolStream
from greenroom.actors.runtime.event_bus import say
from greenroom.messages import _validate as check
from greenroom.messages.replies import Reply
from greenroom.messages.requests import Request
from greenroom.serve.chat_answer import CompletionEvents, Served, completion, event, usage_of
from greenroom.serve.chat_request import ANY_MODEL, ChatRequest, chat_request
from greenroom.serve.hang_up import ClientLeftError, EventsResponse, unless_left
from greenroom.web.problems import Problem, ProblemError, Row, problem_of

OWN_NAME = "greenroom"
"""Every pool answers to it, whatever its name is."""
MOST_BYTES = 32 * 1024 * 1024
"""Of a request's body; more are refused unread."""

Handler = Callable[[WebRequest], Awaitable[Response]]


def create_app(
    pool: PoolRef,
    *,
    key: str | None = None,
    models: Iterable[str] = (),
    hosts: Iterable[str] = (),
    max_body_bytes: int = MOST_BYTES,
) -> ASGIApp:
    """The pool as an ASGI app, to be run by any server or mounted in another app.

    It has POST `/v1/chat/completions`, GET `/v1/models` and GET `/healthz`. The pool stays its
    caller's, who stops it. A pool that is started on the loop of the server has its async agents
    there.

    Args:
        pool: started already.
        key: what clients must send as their bearer token (`/healthz` needs none); None: nothing.
        models: names that clients may ask for besides the pool's own and "greenroom"; "*": any.
        hosts: the names by which clients may call the server, in their header `Host`; none: any.
        max_body_bytes: the longest body of a request.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """
    if not isinstance(pool, PoolRef):
        raise check.misfit("pool must be a PoolRef", pool)
    if key is not None and not key.strip():
        raise ValueError("key must not be empty")
    if isinstance(models, str):
        raise TypeError("models must be several names, got one string")
    names = tuple(dict.fromkeys((pool.name, OWN_NAME, *models)))
    for name in names:
        check.name("models", name)
    check.whole("max_body_bytes", max_body_bytes, minimum=1)
    if isinstance(hosts, str):
        raise TypeError("hosts must be several names, got one string")
    endpoint = _Endpoint(pool, key, names, frozenset(map(str.lower, hosts)), max_body_bytes)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", endpoint.guarded(endpoint.chat), methods=["POST"]),
            Route("/v1/models", endpoint.guarded(endpoint.models), methods=["GET"]),
            Route("/v1/models/{name:path}", endpoint.guarded(endpoint.model), methods=["GET"]),
            Route("/healthz", endpoint.health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_such_page},
    )
    app.router.redirect_slashes = False  # it would answer before anything is checked
    return app


class _Endpoint:
    """The handlers of one app."""

    def __init__(
        self,
        pool: PoolRef,
        key: str | None,
        names: tuple[str, ...],
        hosts: frozenset[str],
        max_body_bytes: int,
    ) -> None:
        self._pool = pool
        # Not the key itself: nothing that shows this object, or dumps its frames, has it.
        self._digest = None if key is None else _digest(key.strip().encode())
        self._names = names
        self._hosts = hosts
        self._max_body_bytes = max_body_bytes
        self._created = int(time.time())

    def guarded(self, handler: Handler) -> Handler:
        """The handler for whoever has the key, with its errors in OpenAI's form."""

        async def guarded(web: WebRequest) -> Response:
            try:
                self._check_host(web)
                self._check_key(web)
                return await handler(web)
            except (ClientLeftError, ClientDisconnect):
                return Response(status_code=499)  # nobody reads it
            except ProblemError as error:
                return _refusal(error.problem)
            except Exception as error:
                return _refusal(self._internal(error))

        return guarded

    def _internal(self, error: Exception) -> Problem:
        """Of an error that should not be; its words, which may hold what was asked, stay here."""
        said = f"an error of the server's own: {type(error).__name__}"
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        where = f"{frame.f_code.co_filename}:{line}"
        say("ERROR", __name__, f"{said} at {where}", pool=self._pool.name)
        return Problem.of(Row.INTERNAL, said)

    async def chat(self, web: WebRequest) -> Response:
        """An answer of the pool's, whole or as events."""
        asked = chat_request(await self._body(web), self._names)
        id = f"chatcmpl-{uuid.uuid4().hex}"
        request = Request(asked.prompt, key=asked.key, request_id=id)
        try:
            if asked.stream:
                return await self._streamed(asked, request, id, web)
            reply = await unless_left(self._pool.aask(request), web.receive)
            body = completion(_served(asked, id, reply.metadata), reply.value)
        except (ClientLeftError, ClientDisconnect):
            raise
        except Exception as error:
            return _refusal(problem_of(error), id)
        return Response(body, headers=_headers(id, reply), media_type="application/json")

    async def _streamed(
        self, asked: ChatRequest, request: Request[Any], id: str, web: WebRequest
    ) -> Response:
        stream = self._pool.stream(request)
        try:
            # Until there is a chunk a failure can still have a status.
            await unless_left(_begun(stream), web.receive)
        except BaseException:
            stream.close()
            raise
        events = self._events(asked, stream, id)
        return EventsResponse(events, stream.close, _headers(id, stream))

    async def _events(
        self, asked: ChatRequest, stream: PoolStream[Any], id: str
    ) -> AsyncGenerator[bytes, None]:
        """What is sent of a stream; it ends with `[DONE]`, or with an error and without."""
        written = CompletionEvents(asked.include_usage)
        served = _served(asked, id, stream.metadata)
        try:
            async for chunk in stream:
                if said := written.chunk(served, chunk):
                    yield said
            for each in written.end(_served(asked, id, stream.metadata)):  # known at the end
                yield each
        except Exception as error:
            yield event(problem_of(error).body())

    async def models(self, web: WebRequest) -> Response:
        """The names that the pool answers to."""
        data = [self._model(name) for name in self._names if name != ANY_MODEL]
        return JSONResponse({"object": "list", "data": data})

    async def model(self, web: WebRequest) -> Response:
        """One of them."""
        name = str(web.path_params["name"])
        if name not in self._names and ANY_MODEL not in self._names:
            said = f"the model {name[:100]!r} does not exist"
            raise ProblemError(Problem.of(Row.UNKNOWN_MODEL, said, param="model"))
        return JSONResponse(self._model(name))

    async def health(self, web: WebRequest) -> Response:
        """For a load balancer: 200 while a member could take a request, now or when it is free."""
        try:
            stats = await self._pool.astats()
        except Exception:
            return JSONResponse({"status": "stopped"}, 503)
        if stats.draining:
            return JSONResponse({"status": "draining"}, 503)
        able = stats.can_serve
        return JSONResponse({"status": "ok" if able else "unavailable"}, 200 if able else 503)

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": OWN_NAME}

    def _check_host(self, web: WebRequest) -> None:
        if self._hosts and _host_of(web) not in self._hosts:
            said = f"the header host must be one of {', '.join(sorted(self._hosts))}"
            raise ProblemError(Problem.of(Row.WRONG_HOST, said))

    def _check_key(self, web: WebRequest) -> None:
        if self._digest is None:
            return
        scheme, _, given = web.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(_digest(given.strip().encode("latin-1")), self._digest)
        if scheme.lower() != "bearer" or not right:
            said = (
                "a wrong key: send the server's as a bearer token" if given else "a key is needed"
            )
            raise ProblemError(Problem.of(Row.BAD_KEY, said))

    async def _body(self, web: WebRequest) -> bytes:
        kind = web.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # What a page in a browser can send without asking is of another type.
            said = "the request must have the header content-type: application/json"
            raise ProblemError(Problem.of(Row.NO_JSON, said))
        body = bytearray()
        async for piece in web.stream():
            body += piece
            if len(body) > self._max_body_bytes:
                said = f"the body must have at most {self._max_body_bytes} bytes"
                raise ProblemError(Problem.of(Row.TOO_LARGE, said))
        return bytes(body)


async def _begun(stream: PoolStream[Any]) -> None:
    await stream.first()


def _served(asked: ChatRequest, id: str, metadata: Mapping[str, Any]) -> Served:
    """What the member has said of its answer, as far as that can be used here."""
    model, usage, finish = (metadata.get(name) for name in ("model", "usage", "finish_reason"))
    return Served(
        id,
        int(time.time()),
        model if isinstance(model, str) and model else asked.model,
        usage_of(usage),
        finish if isinstance(finish, str) else None,
    )


_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::[0-9]{0,5})?")


def _host_of(web: WebRequest) -> str | None:
    """The name by which the server is called; None where it cannot be told. (`web.url` is no help:
    where the header is odd it names the address that the server listens at.)
    """
    given = web.headers.getlist("host")
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return None if found is None else (found[1] or found[2]).lower()


def _digest(key: bytes) -> bytes:
    """Of one length whatever the key's is, so that the comparison tells nothing of it."""
    return hashlib.sha256(key).digest()


def _headers(id: str, answered: Reply[Any] | PoolStream[Any]) -> dict[str, str]:
    member = answered.member or ""
    said = {"x-request-id": id, "x-greenroom-attempts": str(answered.attempts)}
    return {**said, "x-greenroom-member": member} if member.isascii() and member else said


def _refusal(problem: Problem, id: str | None = None) -> Response:
    headers = problem.headers()
    if id is not None:
        headers["x-request-id"] = id
    if problem.status == 413:  # the rest of it is not read
        headers["connection"] = "close"
    return JSONResponse(problem.body(), problem.status, headers)


async def _no_such_page(web: WebRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    row = Row.METHOD if error.status_code == 405 else Row.NO_SUCH_PAGE
    words = f"{web.method} {web.scope['path']} is not served here"
    response = _refusal(Problem.of(row, words))
    response.headers.update(error.headers or {})
    return response

"""A web service on a pool: answers, streams, and true words when nobody can answer.

uvicorn examples.fastapi_app:app     to serve it; SIGTERM ends it when all is answered
python examples/fastapi_app.py       to see what its clients see, without a server
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from fastapi import FastAPI, HTTPException
from fastapi.requests import Request as WebRequest
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from greenroom import AgentPool, Member, PoolError, PoolRef, PoolStream, Request
from greenroom.serve import ClientLeftError, EventsResponse, unless_left
from greenroom.web import drain_on_sigterm, problem_of

GRACE_S = 20.0  # less than what is left until SIGKILL: Kubernetes leaves 30 s

# -- the agents: put the calls of your clients here


async def cloud(prompt: str) -> AsyncIterator[str]:
    if "rain" in prompt:
        raise ConnectionError("connection refused")  # what an outage looks like
    yield "cloud: "
    yield prompt.upper()


async def local(prompt: str) -> AsyncIterator[str]:
    yield "local: "
    yield prompt.lower()


MEMBERS = [Member("cloud", cloud), Member("local", local, priority=1)]

# -- the service


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool for each process of the app, with its agents on the app's loop."""
    async with AgentPool.start(MEMBERS, strategy="priority", name="web") as pool:
        app.state.pool = pool
        with drain_on_sigterm(pool, GRACE_S):
            yield


app = FastAPI(lifespan=lifespan)


class Prompt(BaseModel):
    text: str


def pool_of(web: WebRequest) -> PoolRef:
    pool: PoolRef = web.app.state.pool
    return pool


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong with the pool, or with a client, as a status."""
    try:
        yield
    except ClientLeftError as error:
        raise HTTPException(499) from error  # nobody reads it
    except Exception as error:  # the pool's, or an agent's own: the request is at fault
        problem = problem_of(error)
        if problem.status == 500:  # a mistake of this app: with its traceback to the log
            raise
        detail = problem.body()["error"]
        raise HTTPException(problem.status, detail, problem.headers()) from error


@app.post("/ask")
async def ask(prompt: Prompt, web: WebRequest) -> dict[str, str]:
    with told():
        asking = pool_of(web).aask(Request(prompt.text, timeout=30))
        reply = await unless_left(asking, web.receive)
    return {"answer": "".join(reply.value), "by": reply.member}


@app.post("/stream")
async def stream(prompt: Prompt, web: WebRequest) -> Response:
    """Each chunk is a server-sent event. If the client goes away, its stream is closed."""
    chunks = pool_of(web).stream(Request(prompt.text, timeout=120))
    try:
        with told():  # until there is a chunk another member can take over, and a status be sent
            await unless_left(chunks.first(), web.receive)
    except BaseException:
        chunks.close()
        raise
    return EventsResponse(events(chunks), close=chunks.close)


async def events(chunks: PoolStream[str]) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk)}\n\n".encode()
    except PoolError as error:  # it broke off: too late for a status
        yield f"event: error\ndata: {json.dumps(problem_of(error).body())}\n\n".encode()


@app.get("/health")
async def health(web: WebRequest) -> JSONResponse:
    """For a load balancer: is there a member that can be asked, and no drain?"""
    stats = await pool_of(web).astats()
    members = {member.name: member.status for member in stats.members}
    return JSONResponse(members, 200 if stats.can_serve else 503)


# -- what its clients see


async def main() -> None:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        for path, text in (
            ("/ask", "Sun"),
            ("/ask", "rain"),
            ("/stream", "Sun"),
            ("/stream", "rain"),
        ):
            answer = await client.post(path, json={"text": text})
            print(path, text, answer.status_code, answer.text.strip().replace("\n\n", " | "))
        answer = await client.get("/health")
        print("/health", answer.status_code, answer.text)


if __name__ == "__main__":
    asyncio.run(main())

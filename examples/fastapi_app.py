"""A web service on a pool: answers, streams, and true words when nobody can answer.

uvicorn examples.fastapi_app:app     to serve it
python examples/fastapi_app.py       to see what its clients see, without a server
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from fastapi.requests import Request as WebRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    DeadlineExceededError,
    Drain,
    GetStats,
    Member,
    PoolError,
    PoolRef,
    PoolSaturatedError,
    Request,
)

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


class Prompt(BaseModel):
    text: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool for the whole app; before it ends, what is at hand is answered."""
    async with AgentPool.start(MEMBERS, strategy="priority", name="web") as pool:
        app.state.pool = pool
        yield
        await pool.ask(Drain(10), block=False)


app = FastAPI(lifespan=lifespan)


def pool_of(web: WebRequest) -> PoolRef:
    pool: PoolRef = web.app.state.pool
    return pool


@app.post("/ask")
async def ask(prompt: Prompt, web: WebRequest) -> dict[str, str]:
    reply = await pool_of(web).ask(Request(prompt.text, timeout=30), block=False)
    return {"answer": "".join(reply.value), "by": reply.member}


@app.post("/stream")
async def stream(prompt: Prompt, web: WebRequest) -> StreamingResponse:
    """Each chunk is a server-sent event. If the client goes away, its stream is closed."""
    chunks = pool_of(web).stream(Request(prompt.text, timeout=120))
    await chunks.first()  # raises while the status can still say so

    async def events() -> AsyncIterator[str]:
        async with chunks:
            try:
                async for chunk in chunks:
                    yield f"data: {json.dumps(chunk)}\n\n"
            except PoolError as error:  # it broke off: too late for a status
                yield f"event: error\ndata: {json.dumps(first_line(error))}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/health")
async def health(web: WebRequest) -> JSONResponse:
    """For a load balancer: is there a member that may be asked?"""
    stats = await pool_of(web).ask(GetStats(), block=False)
    members = {member.name: member.status for member in stats.members}
    return JSONResponse(members, 200 if stats.available else 503)


def first_line(error: Exception) -> str:
    """Which pool, and what became of the request; the lines below it are for the log."""
    return str(error).splitlines()[0]


@app.exception_handler(PoolError)
async def failed(web: WebRequest, error: Exception) -> Response:
    status = 504 if isinstance(error, DeadlineExceededError) else 503
    headers = {}
    if isinstance(error, PoolSaturatedError | AllPoolMembersFailedError):
        headers["Retry-After"] = str(max(1, round(error.retry_after_s or 1)))
    return JSONResponse({"error": first_line(error)}, status, headers)


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

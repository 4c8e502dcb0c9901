"""a2a: an agent behind the A2A protocol; its events are the chunks."""

from __future__ import annotations

# recipe
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from a2a.client import ClientConfig, create_client
from a2a.types import CancelTaskRequest, Message, Role, SendMessageRequest, StreamResponse

from greenroom import Member


def asked(prompt: str) -> SendMessageRequest:
    message = Message(message_id=uuid4().hex, role=Role.ROLE_USER)
    message.parts.add(text=prompt)
    return SendMessageRequest(message=message)


def member(name: str, url: str) -> Member:
    @asynccontextmanager
    async def agent() -> AsyncIterator[Any]:
        async with httpx.AsyncClient(timeout=31) as http:
            client = await create_client(url, ClientConfig(httpx_client=http))

            async def events(prompt: str) -> AsyncIterator[StreamResponse]:
                task = ""
                try:
                    async for event in client.send_message(asked(prompt)):
                        task = task or event.task.id
                        yield event
                except (asyncio.CancelledError, GeneratorExit):
                    if task:  # without this the agent works on, for nobody
                        await client.cancel_task(CancelTaskRequest(id=task))
                    raise

            yield events

    return Member(name, factory=agent)


# end of recipe
import json  # noqa: E402

from a2a.client import Client  # noqa: E402
from a2a.helpers import new_task_from_user_message  # noqa: E402
from a2a.server.agent_execution import AgentExecutor, RequestContext  # noqa: E402
from a2a.server.events import EventQueue  # noqa: E402
from a2a.server.request_handlers import DefaultRequestHandler  # noqa: E402
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes  # noqa: E402
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater  # noqa: E402
from a2a.types import AgentCapabilities, AgentCard, Part  # noqa: E402
from starlette.applications import Starlette  # noqa: E402

from frameworks.case import Case  # noqa: E402
from frameworks.served import serve  # noqa: E402


class Front(AgentExecutor):
    """Asks a backend, and fails as that does; where its stream is cut, so is that of the task."""

    def __init__(self, backend: str) -> None:
        self._backend = backend

    async def execute(self, context: RequestContext, queue: EventQueue) -> None:
        await queue.enqueue_event(new_task_from_user_message(context.message))
        task = TaskUpdater(queue, context.task_id, context.context_id)
        await task.start_work()
        messages = [{"role": "user", "content": context.get_user_input()}]
        async with (
            httpx.AsyncClient(base_url=self._backend, timeout=60) as http,
            http.stream(
                "POST", "/chat/completions", json={"messages": messages, "stream": True}
            ) as response,
        ):
            if response.is_error:
                await task.failed(task.new_agent_message([Part(text="the model has failed")]))
                return
            begun = False
            async for line in response.aiter_lines():
                if line.endswith("[DONE]"):
                    await task.complete()
                elif text := line and _text_of(line):
                    await task.add_artifact([Part(text=text)], artifact_id="1", append=begun)
                    begun = True

    async def cancel(self, context: RequestContext, queue: EventQueue) -> None:
        await TaskUpdater(queue, context.task_id, context.context_id).cancel()


def _text_of(line: str) -> str:
    delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
    return str(delta.get("content") or "")


def server_of(backend: str) -> str:
    """The URL of an agent that asks that backend."""

    def app_of(url: str) -> Starlette:
        card = AgentCard(name="front", version="1", description="asks a model")
        card.capabilities.CopyFrom(AgentCapabilities(streaming=True))
        card.supported_interfaces.add(url=url, protocol_binding="JSONRPC", protocol_version="1.0")
        handler = DefaultRequestHandler(Front(backend), InMemoryTaskStore(), card)
        return Starlette(
            routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]
        )

    return serve(app_of)


def before(name: str, url: str) -> Member:
    return member(name, server_of(url))


def plain(name: str, url: str) -> Member:
    async def made() -> Client:
        return await create_client(server_of(url))

    return Member(name, factory=made)


def piece(event: StreamResponse) -> str:
    return "".join(part.text for part in event.artifact_update.artifact.parts)


CASE = Case(
    package="a2a-sdk",
    member=before,
    plain=plain,
    said=lambda value: "".join(map(piece, value)),
    unswitched=before,
    why="a client has no run method",
    streaming=before,
    piece=piece,
)

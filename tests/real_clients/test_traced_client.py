"""The real openai client, instrumented by OpenTelemetry's own package, below a pool's attempts.

`make test-clients ARGS=context` has all of it; elsewhere it is skipped.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from greenroom import AgentPool, Member, Telemetry

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hello"},
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


class Provider(BaseHTTPRequestHandler):
    """Under `/down` it is out of order, elsewhere it answers."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        down = self.path.startswith("/down")
        said = {"error": {"message": "out of order", "type": "server_error"}} if down else ANSWER
        body = json.dumps(said).encode()
        self.send_response(500 if down else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a provider on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{provider.server_address[1]}"
        provider.shutdown()


@pytest.fixture
def telling() -> Iterator[Any]:
    """Providers that keep what they are told, which the client is instrumented for."""
    reason = "is not installed: make test-clients ARGS=context has it"
    pytest.importorskip("openai", reason=f"openai {reason}")
    named = "opentelemetry.instrumentation.genai.openai"
    instrumentation = pytest.importorskip(named, reason=f"{named} {reason}")
    from helpers_telemetry import Telling

    told = Telling()
    instrumentor = instrumentation.OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=told.traces, meter_provider=told.meters)
    yield told
    instrumentor.uninstrument()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_clients_own_span_is_a_child_of_the_attempt(
    server: str, telling: Any, asynchronous: bool
) -> None:
    """Each attempt has the call that was made in it, with what the client's package says of it."""
    import openai

    def member(name: str, path: str, priority: int) -> Member:
        url, key = f"{server}/{path}/v1", "not-a-key"
        messages: Any = [{"role": "user", "content": "hi"}]

        def sync(prompt: str) -> Any:
            with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
                made = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
                return made.choices[0].message.content

        async def coroutine(prompt: str) -> Any:
            async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
                made = await client.chat.completions.create(model="gpt-4o-mini", messages=messages)
                return made.choices[0].message.content

        return Member(name, coroutine if asynchronous else sync, priority=priority)

    members = [member("claude", "down", 0), member("local", "up", 1)]
    setting: Telemetry = telling.setting
    config = {"strategy": "priority", "name": "writers", "telemetry": setting}
    pool = AgentPool.start(members, **config)  # type: ignore[arg-type]
    with pool, telling.tracer.start_as_current_span("POST /answer"):
        answered = asyncio.run(_awaited(pool)) if asynchronous else pool.execute("hi")
    assert answered == "hello"
    assert telling.tree() == [
        "POST /answer",
        "  invoke_agent writers -> answered",
        "    attempt claude #1 -> failed unavailable",
        "      chat gpt-4o-mini",
        "    attempt local #2 -> answered",
        "      chat gpt-4o-mini",
    ]
    calls = [dict(span.attributes) for span in telling.named("chat gpt-4o-mini")]
    assert calls[0]["error.type"].endswith("InternalServerError")
    assert calls[1]["gen_ai.usage.output_tokens"] == 2


async def _awaited(pool: Any) -> Any:
    return await pool.aexecute("hi")

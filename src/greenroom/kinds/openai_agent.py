"""A model of any OpenAI-compatible server as an agent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from greenroom.kinds.chat_prompt import ChatPrompt
from greenroom.kinds.encodable import check_encodable, unencodable
from greenroom.kinds.openai_completion import (
    BODY_LIMIT,
    Completion,
    CompletionRules,
    CompletionStream,
    completion_of,
)
from greenroom.kinds.rate_headers import limits_in, spent_in
from greenroom.kinds.secrets import key_in
from greenroom.messages import _validate as check
from greenroom.messages.member import CallContext

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REST_S = 0.2
"""How long the end of a response is waited for that has said all."""

_OURS = ("messages", "model", "stream")


class OpenAIAgent:
    """Asks a model by the chat completions protocol; needs `pip install 'greenroom[openai]'`.

    A payload is a prompt, a list of messages as the protocol has them, or a `ChatPrompt`, whose
    parameters go before `params`. The answer is the text;
    where the model calls tools, it is the assistant's message as one hands it back, and the chunks
    of a stream are `{"tool_calls": [...]}`. What is no whole answer is an
    `UnsuccessfulResultError` that says what it is, whatever the status of the response.

    The client is made where the agent runs, one for each event loop, and tries nothing again by
    itself: that is the pool's affair. What the headers of its responses say of rate limits, and
    their usage, goes to the pool: see `Member.limits`. `Member("gpt", factory=lambda:
    OpenAIAgent(...))` has it closed at the end.

    Args:
        model: as the server calls it.
        base_url: of the server, with its `/v1`; None: OpenAI's own.
        api_key_env: the environment variable that holds the key; None: `OPENAI_API_KEY` for OpenAI
            itself, none for another server.
        system: a system message that goes before each payload.
        params: more of the request's body: `{"temperature": 0.2}`.
        on_length: an answer that was cut off at its length fails, so that another member answers,
            or is accepted.
        on_filter: one that a content filter has stopped, or in which the model refuses, is told to
            whoever asks ("caller"), or given to another member ("next").

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        ModuleNotFoundError: openai is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        system: str | None = None,
        params: Mapping[str, Any] | None = None,
        on_length: Literal["fail", "accept"] = "fail",
        on_filter: Literal["caller", "next"] = "caller",
    ) -> None:
        check.text("model", model)
        for name, value in (
            ("model", model),
            ("base_url", base_url),
            ("api_key_env", api_key_env),
            ("system", system),
        ):
            check.text(name, value, optional=True)
            _check_sayable(name, value)
        if on_length not in ("fail", "accept"):
            raise ValueError(f"on_length must be 'fail' or 'accept', got {on_length!r}")
        if on_filter not in ("caller", "next"):
            raise ValueError(f"on_filter must be 'caller' or 'next', got {on_filter!r}")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url must begin with http:// or https://, got {base_url!r}")
        self.model = model
        self._base_url = base_url
        self._key = _key_of(api_key_env, base_url)
        self._system = system
        self._params = _params(params)
        self._rules = CompletionRules(model, on_length, on_filter)
        self._new_client = _client_class()
        # A client is bound to the loop of its connections.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = (
            WeakKeyDictionary()
        )

    async def arun(
        self, payload: str | Sequence[Mapping[str, Any]], context: CallContext | None = None
    ) -> Any:
        """The model's answer. `Reply.metadata` has the `model` that has given it, and its `usage`,
        as the server says them; and the `finish_reason` of one that did not just stop.

        Raises:
            UnsuccessfulResultError: what the server has answered is none.
            openai.APIError: the client's own: a status from 400, a connection that broke off.
            TypeError: the payload is neither a prompt nor a list of messages.
            PayloadError: it holds what no server could be told: a lone surrogate, an infinite
                number, in its parameters too.
        """
        body = self._body(payload, stream=False)
        with _limits_told(context):
            async with self._request(body, self._params_for(payload)) as response:
                _tell_limits(context, response)
                content, kind = await _body_of(response), _content_type(response)
        whole = completion_of(content, kind, self._rules_for(payload), time.time())
        if context is not None:
            _tell_of(context, whole)
        return whole.value

    async def astream(
        self, payload: str | Sequence[Mapping[str, Any]], context: CallContext | None = None
    ) -> AsyncIterator[Any]:
        """The same chunk by chunk, as the server sends it."""
        body = self._body(payload, stream=True)
        with _limits_told(context):
            async with self._request(body, self._params_for(payload)) as response:
                _tell_limits(context, response)
                alive = (lambda: None) if context is None else context.alive
                reader = CompletionStream(self._rules_for(payload), _content_type(response), alive)
                pieces: AsyncIterator[bytes] = response.iter_bytes()
                while (piece := await _next_of(pieces, reader)) is not None:
                    for chunk in reader.feed(piece, time.time()):
                        yield chunk
                    if reader.over:
                        await _run_out(pieces)
                        break
                for chunk in reader.end(time.time()):
                    yield chunk
                if context is not None:
                    _tell_of(context, reader.whole)

    async def aclose(self) -> None:
        """Close the client of the loop that runs here."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    def __repr__(self) -> str:
        return f"<OpenAIAgent {self.model}>"

    def _body(self, payload: str | Sequence[Mapping[str, Any]], *, stream: bool) -> dict[str, Any]:
        messages: list[Any] = []
        if self._system is not None:
            messages.append({"role": "system", "content": self._system})
        if isinstance(payload, ChatPrompt):
            check_encodable(payload.params)
            messages += payload.messages
        elif isinstance(payload, str):
            messages.append({"role": "user", "content": payload})
        elif isinstance(payload, list | tuple) and all(
            isinstance(each, Mapping) for each in payload
        ):
            messages += payload
        else:
            raise TypeError(
                f"payload must be a str or a list of messages, got a {type(payload).__name__}"
            )
        # The client's own error would hold the whole of it, and be the member's.
        check_encodable(messages)
        return {"model": self.model, "messages": messages, "stream": stream}

    def _params_for(self, payload: object) -> dict[str, Any]:
        return (
            payload.params_over(self._params) if isinstance(payload, ChatPrompt) else self._params
        )

    def _rules_for(self, payload: object) -> CompletionRules:
        if isinstance(payload, ChatPrompt) and payload.limits_length:
            return replace(self._rules, on_length="accept")
        return self._rules

    def _request(self, body: dict[str, Any], params: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._new_client(
                api_key=self._key, base_url=self._base_url, max_retries=0
            )
        # What is in the body beside ours is none of the client's business: it refuses names that it
        # does not know.
        create: Callable[..., Any] = client.chat.completions.with_streaming_response.create
        return create(**body, extra_body=params or None)


async def _body_of(response: Any) -> bytes:
    """A body; of one that is too long no more than shows that it is."""
    taken = bytearray()
    async for piece in response.iter_bytes():
        taken += piece
        if len(taken) > BODY_LIMIT:
            break
    return bytes(taken)


async def _next_of(pieces: AsyncIterator[bytes], reader: CompletionStream) -> bytes | None:
    """The next piece of a body; None at its end, which a whole answer has also where the server
    has broken it off.
    """
    try:
        return await anext(pieces, None)
    except Exception:
        if not reader.finished:
            raise
        return None


async def _run_out(pieces: AsyncIterator[bytes]) -> None:
    """Read what comes behind the end, which is nothing: then the connection serves again. Not for
    long: there are servers that leave it open.
    """
    with contextlib.suppress(Exception):
        async with asyncio.timeout(REST_S):
            async for _ in pieces:
                pass


def _tell_of(context: CallContext, whole: Completion) -> None:
    """Say what the server has said of its answer, and what that took."""
    context.describe(**whole.metadata)
    if spent := spent_in(whole.usage):
        context.spent(**spent)


def _tell_limits(context: CallContext | None, response: Any) -> None:
    """Say what the headers of a response say of the limits of the key."""
    headers = getattr(response, "headers", None)
    if context is None or not isinstance(headers, Mapping):
        return
    for seen in limits_in(headers, time.time()):
        context.limits(**seen._asdict())


@contextlib.contextmanager
def _limits_told(context: CallContext | None) -> Iterator[None]:
    """The same of the response that an error of the client's comes with, a 429 say."""
    try:
        yield
    except Exception as error:
        _tell_limits(context, getattr(error, "response", None))
        raise


def _content_type(response: Any) -> str:
    return str(response.headers.get("content-type", ""))


def _key_of(name: str | None, base_url: str | None) -> str:
    """The key; what is missing is told by the name of its variable."""
    if name is None and base_url is not None:
        return "none"  # the client does without none; such servers read none
    return key_in("api_key_env", name or "OPENAI_API_KEY")


def _params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    if params is None:
        return {}
    check.mapping("params", params, secret=True)
    for name in _OURS:
        if name in params:
            raise ValueError(f"params must not hold {name!r}: that is the agent's own")
    _check_sayable("params", params)
    return dict(params)


def _check_sayable(field: str, value: Any) -> None:
    """Of what goes into each request; the value is not shown."""
    if fault := unencodable(value):
        raise ValueError(f"{field} must be what can be encoded, got {fault} in it")


def _client_class() -> type[AsyncOpenAI]:
    try:
        from openai import AsyncOpenAI
    except ModuleNotFoundError as error:
        if error.name != "openai":
            raise
        raise ModuleNotFoundError(
            "OpenAIAgent needs openai: pip install 'greenroom[openai]'", name="openai"
        ) from error
    return AsyncOpenAI

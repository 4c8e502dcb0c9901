"""`greenroom.adk.AdkAgent`: an agent of ADK's as an ordinary member of a pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from google.adk.agents import BaseAgent, InvocationContext, LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.run_config import RunConfig
from google.adk.apps import App
from google.adk.events import Event
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.long_running_tool import LongRunningFunctionTool
from google.adk.tools.tool_context import ToolContext
from google.adk.workflow import Workflow
from google.genai import types
from helpers_adk_models import (
    ANSWER,
    HANG,
    ScriptedModel,
    agent_on,
    call,
    error,
    piece,
    thought,
    whole,
)
from helpers_attempts import counts, idle, overtime, run
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import within

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    PayloadError,
    PoolConfig,
    PoolRef,
    Reply,
    Request,
    StreamInterruptedError,
    UnsuccessfulResultError,
)
from greenroom.adk import AdkAgent, PoolModel, adk_agent
from greenroom.kinds import ChatPrompt
from greenroom.testing import FakeClock, http_error

GONE = ConnectionError("gone")


def scripted(*turns: Any, **options: Any) -> AdkAgent:
    """An agent on a model with that script."""
    return AdkAgent(agent_on(ScriptedModel("m", *turns), **options))


@contextlib.contextmanager
def one(agent: BaseAgent | App, **config: Any) -> Iterator[PoolRef]:
    """A pool of that agent alone, which tries nothing again."""
    settings = PoolConfig(max_retries=0, **config)
    with AgentPool.start([Member("a", factory=lambda: AdkAgent(agent))], config=settings) as pool:
        yield pool


def ask(agent: BaseAgent | App, payload: Any = "hello") -> Reply[Any]:
    with one(agent) as pool:
        reply: Reply[Any] = pool.ask(Request(payload))
        return reply


def stream(agent: BaseAgent | App) -> list[str]:
    with one(agent) as pool:
        return list(pool.stream(Request("hello")))


def failure(agent: BaseAgent | App) -> tuple[FailureKind, str]:
    """As what its run fails, and what is said of it."""
    with pytest.raises(AllPoolMembersFailedError) as caught:
        ask(agent)
    (failed,) = caught.value.errors
    assert isinstance(failed.kind, FailureKind)
    return failed.kind, str(failed.error)


class Saying(BaseAgent):
    """An agent of somebody's own, which yields events."""

    said: list[Any]

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        for each in self.said:
            if isinstance(each, Exception):
                raise each
            yield Event(author=self.name, invocation_id=ctx.invocation_id, **dict(each))


class InTurn(BaseAgent):
    """An agent whose sub-agents speak one after the other."""

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        for each in self.sub_agents:
            async for event in each.run_async(ctx):
                yield event


def in_turn(*agents: BaseAgent) -> InTurn:
    return InTurn(name="both", sub_agents=list(agents))


def saying(*said: Any, name: str = "saying") -> Saying:
    return Saying(name=name, said=list(said))


# -- its answer


def test_text_in_text_out() -> None:
    """`Reply.metadata` says whose it is, and of which model."""
    reply = ask(agent_on(ScriptedModel("m", [whole("hi", model_version="m-1")])))
    assert reply.value == "hi"
    assert dict(reply.metadata) == {"agent": "writer", "model": "m-1"}


def test_an_agent_that_fails_is_replaced_by_another_member() -> None:
    """It is a member like any other, beside any others."""
    members = ranked(a=scripted(GONE), b=lambda prompt: f"plain: {prompt}")
    with pool_of(*members) as pool:
        assert pool.execute("hello") == "plain: hello"
        assert pool.stream(Request("hello")).collect() == ["plain: hello"]


def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} means hello"


def used(prompt: int, answer: int, thoughts: int | None = None) -> dict[str, Any]:
    return {
        "usage_metadata": types.GenerateContentResponseUsageMetadata(
            prompt_token_count=prompt,
            candidates_token_count=answer,
            thoughts_token_count=thoughts,
            total_token_count=prompt + answer + (thoughts or 0),
        )
    }


def with_a_tool() -> LlmAgent:
    turns = [
        [whole("let me see", call("look_up", word="hi"), **used(5, 2))],
        [whole(thought("hm"), "it means hello", **used(9, 3, 1))],
    ]
    return agent_on(ScriptedModel("m", *turns), tools=[look_up])


def test_the_answer_is_the_final_text_and_the_usage_is_that_of_all_calls() -> None:
    """Not what is said on the way to it, nor its thoughts."""
    reply = ask(with_a_tool())
    assert reply.value == "it means hello"
    usage = {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20}
    assert dict(reply.metadata) == {"agent": "writer", "usage": usage}


def test_of_several_agents_the_last_one_has_the_word() -> None:
    """And is named."""
    reply = ask(in_turn(saying(whole("first"), name="a"), saying(whole("second"), name="b")))
    assert reply.value == "second"
    assert reply.metadata["agent"] == "b"
    nodes = [LlmAgent(name=name, model=ScriptedModel("m", f"of {name}")) for name in ("a", "b")]
    reply = ask(App(name="app", root_agent=Workflow(name="both", edges=[("START", *nodes)])))
    assert (reply.value, reply.metadata["agent"]) == ("of b", "b")


def shout(node_input: str) -> str:
    return node_input.upper()


def count(node_input: str) -> dict[str, int]:
    return {"letters": len(node_input)}


@pytest.mark.parametrize(("node", "words"), [(shout, "ONE"), (count, '{"letters":3}')])
def test_the_last_word_may_be_the_output_of_a_node(node: Any, words: str) -> None:
    """Of a workflow: a text as it is, anything else as JSON; in a stream it comes at the end."""
    first = LlmAgent(name="first", model=ScriptedModel("m", "one"))
    app = App(name="app", root_agent=Workflow(name="flow", edges=[("START", first, node)]))
    assert ask(app).value == words
    assert stream(app) == ["o", "ne", words]


@pytest.mark.parametrize(("result", "words"), [("hello", "hello"), ({"a": 1}, '{"a":1}')])
def test_a_tool_may_answer_in_its_agents_place(result: Any, words: str) -> None:
    """`skip_summarization`."""

    def answer(tool_context: ToolContext) -> Any:
        """Answer."""
        tool_context.actions.skip_summarization = True
        return result

    agent = agent_on(ScriptedModel("m", [whole(call("answer"))]), tools=[answer])
    assert ask(agent).value == words
    assert stream(agent) == [words]


def test_an_answer_that_was_cut_off_at_its_length_says_so() -> None:
    """It may be all that was asked for."""
    said = whole("half of", finish_reason="MAX_TOKENS", error_code="MAX_TOKENS")
    reply = ask(agent_on(ScriptedModel("m", [said])))
    assert reply.value == "half of"
    assert reply.metadata["finish_reason"] == "length"


# -- failures


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ([error("503")], FailureKind.UNAVAILABLE, "an answer with the error code 503"),
        ([error("RESOURCE_EXHAUSTED")], FailureKind.RATE_LIMITED, "code RESOURCE_EXHAUSTED"),
        ([error("of my prompt")], FailureKind.UNKNOWN, "an answer with the error code"),
        ([error("MAX_TOKENS")], FailureKind.TOO_LARGE, "was cut off before any content"),
        ([whole()], FailureKind.UNKNOWN, "with the error code MODEL_RETURNED_NO_CONTENT"),
        ([whole(thought("hm"))], FailureKind.UNKNOWN, "error code MODEL_RETURNED_NO_CONTENT"),
        ([], FailureKind.UNKNOWN, "writer returned no final text"),
        ([error("500"), http_error(429)], FailureKind.RATE_LIMITED, "429 Too Many Requests"),
        ([http_error(529)], FailureKind.UNAVAILABLE, "529"),
        ([GONE], FailureKind.UNAVAILABLE, "gone"),
    ],
)
def test_what_a_run_fails_by(script: list[Any], kind: FailureKind, words: str) -> None:
    """An error as its last word, no text, or what it raises, which goes before an event of it."""
    found = failure(agent_on(ScriptedModel("m", script)))
    assert found[0] is kind
    assert found[1].endswith(words)


@pytest.mark.parametrize("said", [error("SAFETY"), error("400"), error("PROHIBITED_CONTENT")])
def test_what_the_request_is_at_fault_for_is_told_to_whoever_asks(said: Event) -> None:
    """A content filter, a bad request: no other member is asked, and none is blamed."""
    members = ranked(a=scripted([said]), b=lambda prompt: "b")
    with pool_of(*members) as pool:
        with pytest.raises(UnsuccessfulResultError) as caught:
            pool.execute("hello")
        assert caught.value.kind is FailureKind.CALLER
        assert counts(pool.stats()["a"]) == (0, 0, 0)


def test_an_agent_that_goes_on_after_an_error_has_the_last_word() -> None:
    """So has an error after an answer."""
    failed, answered = saying(error("503"), name="a"), saying(whole("hi"), name="b")
    assert ask(in_turn(failed, answered)).value == "hi"
    failed, answered = saying(error("503"), name="a"), saying(whole("hi"), name="b")
    assert failure(in_turn(answered, failed)) == (
        FailureKind.UNAVAILABLE,
        "both returned an answer with the error code 503",
    )


def test_a_run_that_waits_for_a_tool_of_somebody_elses_has_no_text() -> None:
    """Nobody comes back to its session."""

    def approve() -> None:
        """Have somebody approve."""

    script = [[whole(call("approve"))], [whole(finish_reason=None)]]
    agent = agent_on(ScriptedModel("m", *script), tools=[LongRunningFunctionTool(approve)])
    assert failure(agent)[1] == "writer returned no final text: it waits for a tool"


# -- streams


def test_it_streams_as_it_speaks() -> None:
    """Pieces of a model that streams; the metadata comes at the end."""
    with one(agent_on(ScriptedModel("m"))) as pool:
        said = pool.stream(Request("hello"))
        assert list(said) == ["the a", "nswer"]
        assert dict(said.metadata) == {"agent": "writer", "model": "m"}


def test_what_was_not_streamed_comes_whole_and_nothing_twice() -> None:
    """Of a model that does not stream, of an agent of one's own, and where the whole says more."""
    assert stream(saying(whole("one"))) == ["one"]
    assert stream(saying(piece("on"), piece("e"), whole("one"))) == ["on", "e"]
    assert stream(saying(piece("on"), whole("one more"))) == ["on", "e more"]
    assert stream(saying(piece("on"), whole("altered"))) == ["on"]
    first = saying(piece("o"), piece("ne"), whole("one"), name="a")
    assert stream(in_turn(first, saying(whole("two"), name="b"))) == ["o", "ne", "two"]


def test_a_stream_has_what_is_said_between_two_tools() -> None:
    """As it is streamed; thoughts are in neither."""
    turns = [
        [piece("let me "), piece("see"), whole("let me see", call("look_up", word="hi"))],
        [whole(thought("hm"), partial=True), piece("hello"), whole("hello")],
    ]
    agent = agent_on(ScriptedModel("m", *turns), tools=[look_up])
    assert stream(agent) == ["let me ", "see", "hello"]


def test_a_stream_fails_over_before_its_first_text_and_is_interrupted_after_it() -> None:
    """Thoughts and empty pieces do not begin it."""
    b = scripted("hi")
    with pool_of(*ranked(a=scripted([whole(thought("hm"), partial=True), GONE]), b=b)) as pool:
        assert pool.stream(Request("hello")).collect() == ["h", "i"]
    for script in ([piece("the"), GONE], [piece("the"), error("503")]):
        with pool_of(*ranked(a=scripted(script), b=b)) as pool:
            with pytest.raises(StreamInterruptedError) as caught:
                pool.stream(Request("hello")).collect()
            assert caught.value.received == ("the",)


@pytest.mark.parametrize("way", ["ask", "stream"])
def test_a_run_that_hangs_is_cut_short_and_closed(
    way: str, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At the pool's limit; no span of ADK's is left behind."""
    hanging = ScriptedModel("m", [lambda _: overtime(clock, 60)])
    members = ranked(a=AdkAgent(agent_on(hanging)), b=scripted("hi"))
    with pool_of(*members, clock=clock, request_timeout_s=60) as pool:
        if way == "ask":
            assert pool.execute("hello") == "hi"
        else:
            assert pool.stream(Request("hello")).collect() == ["h", "i"]
    assert hanging.closed == 1
    assert not [each for each in caplog.records if "detach" in each.getMessage()]


def test_tools_and_thoughts_are_signs_of_life(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first chunk is owed from the last of them on."""
    signs: list[float] = []
    alive = adk_agent._alive

    def noted(context: Any) -> None:
        alive(context)
        signs.append(clock.now())

    monkeypatch.setattr(adk_agent, "_alive", noted)

    async def passes(heard: int) -> None:
        # A partial event is not waited for: the model of ADK's runs ahead of who reads it.
        async with asyncio.timeout(WAIT_S):
            while len(signs) < heard:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
        clock.advance(40)

    turns = [
        [lambda _: passes(0), whole(call("look_up", word="hi"))],
        [lambda _: passes(2), whole(thought("hm"), partial=True)],
    ]
    turns[1] += [lambda _: passes(3), whole("hello")]
    agent = agent_on(ScriptedModel("m", *turns), tools=[look_up])
    member = Member("a", AdkAgent(agent))
    # Nothing is tried again: that would be at a time which this clock never comes to.
    with pool_of(member, clock=clock, request_timeout_s=60, max_retries=0) as pool:
        assert within(pool.stream(Request("hello")).collect) == ["hello"]


def test_a_caller_who_gives_up_ends_the_run() -> None:
    """The model's generator is closed, and the member is free."""

    async def main() -> None:
        begun = asyncio.Event()
        model = ScriptedModel("m", [lambda _: begun.set(), HANG])
        async with AgentPool.start([Member("a", AdkAgent(agent_on(model)))]) as pool:
            asking = asyncio.create_task(pool.aexecute("hello"))
            await begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await idle(pool)
            assert model.closed == 1
            assert counts((await pool.astats())["a"]) == (0, 0, 0)

    run(main)


def test_it_may_ask_a_pool_of_models_itself() -> None:
    """Both at a time: the one fails over between models, the other between agents."""
    models = [ScriptedModel("bad", GONE), ScriptedModel("good")]
    with PoolModel(models) as inner:
        assert ask(agent_on(inner)).value == ANSWER
        assert stream(agent_on(inner)) == ["the a", "nswer"]
    assert models[0].calls == 1
    with PoolModel(models[:1], config=PoolConfig(max_retries=0)) as inner:
        assert failure(agent_on(inner))[0] is FailureKind.UNAVAILABLE


# -- whose conversation it is


def test_nothing_of_one_caller_is_seen_by_another() -> None:
    """Neither what was said nor a state, be it the user's or the app's; nor is an artifact."""
    seen: list[Any] = []

    async def remember(callback_context: CallbackContext) -> None:
        state = callback_context.state
        artifact = await callback_context.load_artifact("user:file")
        seen.append((state.get("user:who"), state.get("app:who"), state.get("who"), artifact))
        state["user:who"] = state["app:who"] = state["who"] = "the first one"
        await callback_context.save_artifact("user:file", types.Part(text="the first one's"))

    model = ScriptedModel("m")
    with one(agent_on(model, before_agent_callback=remember)) as pool:
        for word in ("one", "two"):
            pool.execute(word)
    assert seen == [(None, None, None, None)] * 2
    assert [each.contents for each in model.requests] == [
        [types.UserContent("one")],
        [types.UserContent("two")],
    ]


def test_many_runs_of_one_agent_at_a_time_do_not_mix() -> None:
    """Each has the answer to its own question."""
    many = 20

    async def main() -> list[str]:
        together = asyncio.Barrier(many)

        async def meet(_: Any) -> None:
            await together.wait()

        agent = agent_on(ScriptedModel("m", [meet, whole("met")]), after_agent_callback=echo)
        async with AgentPool.start([Member("a", AdkAgent(agent))]) as pool:
            said = await asyncio.gather(*(pool.aexecute(f"{each}") for each in range(many)))
            return list(said)

    def echo(callback_context: CallbackContext) -> types.Content:
        said = callback_context.user_content
        assert said is not None
        return said

    assert run(main) == [f"{each}" for each in range(many)]


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def test_its_tools_see_the_context_of_whoever_asks() -> None:
    """As any agent does."""

    def whose(tool_context: ToolContext) -> str:
        """Whose it is."""
        return f"{TENANT.get()}, by {tool_context.user_id}"

    def repeat(callback_context: CallbackContext, llm_request: Any) -> None:
        said.extend(
            part.function_response.response
            for part in llm_request.contents[-1].parts
            if part.function_response
        )

    said: list[Any] = []
    model = ScriptedModel("m", [whole(call("whose"))], "done")
    agent = agent_on(model, tools=[whose], before_model_callback=repeat)
    with pool_of(Member("a", AdkAgent(agent, user_id="us"))) as pool:
        TENANT.set("ann")
        assert pool.execute("hello") == "done"
    assert said == [{"result": "ann, by us"}]


# -- payloads


def user(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


def model(text: str) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=text)])


MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
    {"role": "user", "content": "three"},
]


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        ("one", [user("one")]),
        (user("one"), [user("one")]),
        (types.Content(parts=[types.Part(text="one")]), [user("one")]),
        ([user("one"), model("two"), user("three")], [user("one"), model("two"), user("three")]),
        (MESSAGES, [user("one"), model("two"), user("three")]),
        (ChatPrompt(MESSAGES), [user("one"), model("two"), user("three")]),
        (MESSAGES[:1], [user("one")]),
        (MESSAGES[:2], [user("user: one\n\nassistant: two")]),
        (
            [{"role": "system", "content": "short"}, *MESSAGES[:1]],
            [user("system: short\n\nuser: one")],
        ),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}, *MESSAGES[:1]],
            [user("user: [image_url]\n\nuser: one")],
        ),
    ],
    ids=["text", "content", "no role", "contents", "messages", "prompt", "one message",
         "ends with an answer", "system", "image"],
)  # fmt: skip
def test_a_payload_is_what_the_user_says_or_a_conversation(
    payload: Any, seen: list[types.Content]
) -> None:
    """The model has it as one that the agent itself has had."""
    asked = ScriptedModel("m")
    ask(agent_on(asked), payload)
    said = [each.model_dump(exclude_none=True) for each in asked.requests[0].contents]
    assert said == [each.model_dump(exclude_none=True) for each in seen]


@pytest.mark.parametrize(
    ("payload", "kind", "words"),
    [
        (model("two"), PayloadError, "payload must end with what the user says, got role 'model'"),
        ([user("one"), model("two")], PayloadError, "got role 'model'"),
        (types.Content(role="user"), PayloadError, "Contents with parts, got one without"),
        ("half \ud800", PayloadError, "got a lone surrogate in it"),
        ([{"role": "user", "content": "half \ud800"}], PayloadError, "a lone surrogate"),
        (3, TypeError, "payload must be a str, a Content, or a list of these"),
        ([], TypeError, "got a list"),
        ([user("one"), "two"], TypeError, "got a list"),
    ],
)
def test_a_payload_that_is_none_is_refused(payload: Any, kind: type[Exception], words: str) -> None:
    """Before anything is run; by no word of what is in it."""
    with pytest.raises(kind) as caught:
        run(lambda: scripted().arun(payload))
    assert words in str(caught.value)


# -- its life, and what it is given


class Tools(BaseToolset):
    """A toolset that says when it is closed."""

    closed = 0

    async def get_tools(self, readonly_context: Any = None) -> list[BaseTool]:
        return []

    async def close(self) -> None:
        self.closed += 1


class Plugin(BasePlugin):
    """A plugin that counts runs, and says when it is closed."""

    runs = closed = 0

    async def before_run_callback(self, *, invocation_context: InvocationContext) -> None:
        self.runs += 1

    async def close(self) -> None:
        self.closed += 1


def test_toolsets_and_plugins_are_closed_with_the_member_and_not_before() -> None:
    """They are shared by all of its runs."""
    tools, plugin = Tools(), Plugin("counting")
    agent = agent_on(ScriptedModel("m"), tools=[tools])
    with one(App(name="app", root_agent=agent, plugins=[plugin])) as pool:
        for _ in range(3):
            pool.execute("hello")
        assert (tools.closed, plugin.closed, plugin.runs) == (0, 0, 3)
    assert (tools.closed, plugin.closed) == (1, 1)


def test_the_settings_of_a_run_are_those_that_are_given() -> None:
    """Whether it streams is not among them."""
    seen: list[RunConfig | None] = []

    def look(callback_context: CallbackContext) -> None:
        seen.append(callback_context.run_config)

    config = RunConfig.model_validate({"max_llm_calls": 7, "streaming_mode": "sse"})
    agent = AdkAgent(
        agent_on(ScriptedModel("m"), before_agent_callback=look), app_name="mine", run_config=config
    )
    with pool_of(Member("a", agent)) as pool:
        pool.execute("hello")
        pool.stream(Request("hello")).collect()
    assert [each and each.max_llm_calls for each in seen] == [7, 7]
    assert [each and each.streaming_mode.value for each in seen] == [None, "sse"]


def test_its_repr_shows_its_name_alone() -> None:
    """An instruction may be a secret."""
    agent = agent_on(ScriptedModel("m"), instruction="secret")
    assert repr(AdkAgent(agent)) == "<AdkAgent writer>"
    assert repr(AdkAgent(App(name="app", root_agent=agent))) == "<AdkAgent writer>"


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: AdkAgent(3), TypeError, "agent must be an agent or an App of ADK's, got a int"),  # type: ignore[arg-type]
        (lambda: AdkAgent(LlmAgent), TypeError, "got a class LlmAgent"),  # type: ignore[arg-type]
        (lambda: AdkAgent(saying(), app_name=""), ValueError, "app_name must not be empty"),
        (lambda: AdkAgent(saying(), user_id=""), ValueError, "user_id must not be empty"),
        (lambda: AdkAgent(saying(), run_config=3), TypeError, "run_config must be a RunConfig"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_agent_is_refused_where_it_is_given(
    make: Callable[[], AdkAgent], kind: type[Exception], words: str
) -> None:
    """By its field, with the value and the rule."""
    with pytest.raises(kind) as caught:
        make()
    assert words in str(caught.value)


def test_an_answer_is_the_same_without_a_pool() -> None:
    """`arun` and `astream` want none."""

    async def main() -> tuple[str, list[str]]:
        agent = scripted()
        return await agent.arun("hello"), [each async for each in agent.astream("hello")]

    assert run(main) == (ANSWER, ["the a", "nswer"])

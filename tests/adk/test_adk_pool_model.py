"""`greenroom.adk.PoolModel`: a pool of models under one agent of ADK's."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import pickle
import threading
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.models import BaseLlm, FallbackModel, LLMRegistry
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from google.genai.errors import ClientError, ServerError
from helpers_adk_models import (
    ANSWER,
    HANG,
    ScriptedModel,
    agent_on,
    call,
    error,
    piece,
    request,
    responses,
    texts,
    thought,
    turns,
    whole,
)
from helpers_attempts import counts, idle, overtime, run
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from greenroom import (
    AgentPool,
    AgentTypeError,
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    FailureKind,
    Member,
    MemberExistsError,
    PoolConfig,
    PoolStoppedError,
    StreamInterruptedError,
    UnsuccessfulResultError,
    answers,
)
from greenroom.adk import PoolModel
from greenroom.testing import EventRecorder, FakeClock, http_error

GONE = ConnectionError("gone")
LONG = 60.0
STREAMED = ["the a", "nswer", ANSWER]


def status(code: int) -> Exception:
    """What Google's client raises."""
    body = {"error": {"code": code, "message": "as it says"}}
    return (ClientError if code < 500 else ServerError)(code, body)


def pair(*turns: Any) -> tuple[ScriptedModel, ScriptedModel]:
    """A model with that script, and one that answers."""
    return ScriptedModel("bad", *turns), ScriptedModel("good")


def asked(model: BaseLlm, stream: bool = False) -> list[LlmResponse]:
    return run(lambda: responses(model, stream=stream))


# -- beside ADK's own


def fallback(*models: BaseLlm) -> FallbackModel:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*FALLBACK_MODEL")
        return FallbackModel(models=list(models))


def calls_in_three_turns(wrap: Callable[..., BaseLlm]) -> tuple[int, int]:
    """So often the dead model was asked, and the live one."""
    bad, good = pair(status(503))
    said = run(lambda: turns(agent_on(wrap(bad, good)), "one", "two", "three"))
    assert [texts(each) for each in said] == [[ANSWER]] * 3
    return bad.calls, good.calls


def test_a_dead_model_is_asked_once_in_three_turns() -> None:
    """ADK's FallbackModel asks it again in every turn."""
    assert calls_in_three_turns(fallback) == (3, 3)
    assert calls_in_three_turns(lambda *models: PoolModel(models)) == (1, 3)


@pytest.mark.parametrize(
    ("failure", "of_adk"),
    [
        (status(429), True),
        (status(500), True),
        (status(503), True),
        (status(529), False),
        (status(408), False),
        (GONE, False),
        (TimeoutError("too slow"), False),
        (http_error(404), False),
    ],
    ids=str,
)
def test_what_has_the_next_model_asked(failure: Exception, of_adk: bool) -> None:
    """Whatever another model may mend; ADK's goes on for five statuses."""
    with PoolModel(pair(failure)) as model:
        assert texts(asked(model)) == [ANSWER]
    with pytest.raises(type(failure)) if not of_adk else contextlib.nullcontext():
        assert texts(asked(fallback(*pair(failure)))) == [ANSWER]


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_came_out_broken_has_the_next_model_asked(stream: bool) -> None:
    """Whatever stands beside it."""
    reason = types.FinishReason.MALFORMED_FUNCTION_CALL
    with PoolModel(pair([whole("let me", error_code=reason, finish_reason=reason)])) as model:
        assert texts(asked(model, stream)) == (STREAMED if stream else [ANSWER])


@pytest.mark.parametrize("code", ["429", "RESOURCE_EXHAUSTED", "503", "OTHER", "UNKNOWN_ERROR"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_code_has_the_next_model_asked(code: str, stream: bool) -> None:
    """It is a failure that was not raised; ADK's takes it for an answer."""
    with PoolModel(pair([error(code)])) as model:
        assert texts(asked(model, stream)) == (STREAMED if stream else [ANSWER])
    assert asked(fallback(*pair([error(code)])), stream)[0].error_code == code


def test_an_error_is_named_by_its_code_and_by_nothing_else() -> None:
    """A message may quote the prompt, and what is no word may be one."""
    bad = ScriptedModel("a", [error("503", "of my prompt")])
    odd = ScriptedModel("b", [error("my prompt", "of my prompt")])
    with PoolModel([bad, odd], config=PoolConfig(max_retries=1)) as model:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            asked(model)
        assert [str(each.error) for each in caught.value.errors] == [
            "a returned an answer with the error code 503",
            "b returned an answer with the error code",
        ]
        kinds = [each.kind for each in caught.value.errors]
        assert kinds == [FailureKind.UNAVAILABLE, FailureKind.UNKNOWN]


def test_an_error_code_and_a_raise_are_judged_by_the_exception() -> None:
    """It knows more: here, when the model may be back."""
    throttled = http_error(429, retry_after_s=LONG)
    with PoolModel(pair([error("500"), throttled])) as model:
        assert texts(asked(model)) == [ANSWER]
        reopens_in_s = model.pool.stats()["bad"].reopens_in_s or 0.0
        assert LONG / 2 < reopens_in_s <= LONG


# -- what is an answer


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        [],
        [whole()],
        [whole("")],
        [whole("  \n")],
        [LlmResponse()],
        [whole(finish_reason=types.FinishReason.MAX_TOKENS)],
        [error("MAX_TOKENS")],
    ],
    ids=["nothing", "no parts", "no text", "blank", "no content", "no room", "no room, an error"],
)
def test_what_is_empty_is_no_answer(script: list[Any], stream: bool) -> None:
    """Neither of a model that says nothing, nor of one that had no room left for it."""
    with PoolModel(pair(script)) as model:
        assert texts(asked(model, stream)) == (STREAMED if stream else [ANSWER])


def test_thoughts_alone_are_no_answer() -> None:
    """The next model is asked; but in a stream they have been shown."""
    with PoolModel(pair([whole(thought("hm"))])) as model:
        assert texts(asked(model)) == [ANSWER]


def test_no_room_leaves_the_model_none_the_worse() -> None:
    """Another may have more; a breaker hears nothing of it."""
    bad, good = pair([error("MAX_TOKENS")])
    with PoolModel([bad, good]) as model:
        with EventRecorder() as events:
            asked(model)
        (failed,) = events.named("attempt.failed")
        assert "too_large" in str(failed)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        error("SAFETY", finish_reason=types.FinishReason.SAFETY),
        error("PROHIBITED_CONTENT"),
        error("JAILBREAK"),
        whole("half of", finish_reason=types.FinishReason.MAX_TOKENS, error_code="MAX_TOKENS"),
        whole("half of", finish_reason=types.FinishReason.MAX_TOKENS),
        whole("all of it", finish_reason=types.FinishReason.OTHER, error_code="OTHER"),
        error("400"),
        error("INVALID_ARGUMENT"),
        whole(call("look_up", word="hello")),
        whole(types.Part(inline_data=types.Blob(data=b"1", mime_type="image/png"))),
    ],
    ids=["safety", "prompt", "jailbreak", "length", "length, no code", "other", "400", "argument",
         "call", "image"],
)  # fmt: skip
def test_what_is_no_fault_of_the_backends_is_passed_on_as_it_is(
    said: LlmResponse, stream: bool
) -> None:
    """A content filter, a full length, a bad request: the agent sees what it would see of the model
    itself, nobody else is asked, and nothing is counted.
    """
    bad, good = pair([said])
    with PoolModel([bad, good]) as model:
        assert asked(model, stream) == [said]
        assert good.calls == 0
        assert counts(model.pool.stats()["bad"])[1] == 0


def test_behind_what_a_tool_has_returned_there_may_be_nothing_to_add() -> None:
    """Unless the model says that it has come to its end: that is an error to ADK itself."""
    returned = types.Part.from_function_response(name="look_up", response={"word": "hi"})
    asking = LlmRequest(contents=[types.Content(role="user", parts=[returned])])
    silent = LlmResponse(content=types.Content(role="model", parts=[]))
    with PoolModel(pair([silent], [whole()])) as model:
        assert run(lambda: responses(model, asking)) == [silent]
        assert texts(run(lambda: responses(model, asking))) == [ANSWER]


def test_the_usage_and_whatever_else_a_model_says_is_passed_on() -> None:
    """Responses are not touched."""
    usage = types.GenerateContentResponseUsageMetadata(total_token_count=7)
    said = whole("hi", usage_metadata=usage, custom_metadata={"a": 1}, model_version="m-1")
    with PoolModel([ScriptedModel("a", [said])]) as model:
        assert asked(model) == [said]


# -- by the settings of the pool


def test_a_function_of_ones_own_judges_the_responses() -> None:
    """In place of the rules, or beside them."""

    def polite(said: object) -> bool:
        return isinstance(said, LlmResponse) and texts([said]) == ["no"]

    for refuses in (polite, answers.any_of(answers.auto, polite)):
        config = PoolConfig(is_failure=refuses)
        with PoolModel(pair("no"), config=config) as model:
            assert texts(asked(model)) == [ANSWER]
    with PoolModel(pair([error("503")]), config=PoolConfig(is_failure=polite)) as model:
        assert asked(model) == [error("503")]
    config = PoolConfig(is_failure=answers.any_of(answers.auto, polite))
    with PoolModel(pair([error("503")]), config=config) as model:
        assert texts(asked(model)) == [ANSWER]


def test_without_a_judge_every_response_is_an_answer() -> None:
    """`is_failure=None`."""
    for script in ([error("503")], [whole()], []):
        with PoolModel(pair(script), config=PoolConfig(is_failure=None)) as model:
            assert asked(model) == script


# -- streams


def test_a_stream_fails_over_before_its_first_content() -> None:
    """What shows nothing does not begin it, and is seen by nobody."""
    bad, good = pair([piece(""), piece(" "), LlmResponse(partial=True), GONE])
    with PoolModel([bad, good]) as model:
        assert texts(asked(model, stream=True)) == STREAMED


@pytest.mark.parametrize(
    "script",
    [
        [piece("the"), GONE],
        [piece("the")],
        [piece("the"), error("503")],
        [whole(thought("hm"), partial=True, finish_reason=None), whole(thought("hm"))],
    ],
    ids=["an error", "no end", "an error code", "thoughts alone"],
)
def test_a_stream_that_breaks_off_after_it_is_told(script: list[Any]) -> None:
    """Two models in one answer are none."""
    bad, good = pair(script)
    had: list[LlmResponse] = []

    async def main() -> None:
        async for each in model.generate_content_async(request(), True):
            had.append(each)

    with PoolModel([bad, good]) as model:
        with pytest.raises(StreamInterruptedError, match="'bad'"):
            run(main)
        assert had == script[:1]
        assert good.calls == 0


def test_whose_streams_have_no_end_says_so() -> None:
    """`stream_complete`: none is needed, or what a function says."""
    for setting in (None, lambda said: texts([said]) == ["the"]):
        with PoolModel(pair([piece("the")]), config=PoolConfig(stream_complete=setting)) as model:
            assert texts(asked(model, stream=True)) == ["the"]


def test_an_agent_streams_by_it() -> None:
    """Server-sent events of ADK's: the parts, then the whole."""
    with PoolModel(pair(GONE)) as model:
        said = run(lambda: turns(agent_on(model), "hello", stream=True))
    assert texts(said[0]) == STREAMED
    assert [each.partial for each in said[0]] == [True, True, False]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [[], [piece("")]], ids=["nothing", "a sign of life"])
def test_a_model_that_hangs_is_cut_short(
    begun: list[Any], stream: bool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of an answer, or of a first chunk; its generator is closed."""
    monkeypatch.setattr(AgentPool, "start", functools.partial(AgentPool.start, clock=clock))
    bad, good = pair([*begun, lambda _: overtime(clock, LONG)])
    with PoolModel([bad, good], config=PoolConfig(request_timeout_s=LONG)) as model:
        assert texts(asked(model, stream)) == (STREAMED if stream else [ANSWER])
    assert bad.closed == 1


def test_a_stream_that_hangs_after_its_first_content_is_told(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of a chunk; what its consumer does meanwhile takes none of it."""
    monkeypatch.setattr(AgentPool, "start", functools.partial(AgentPool.start, clock=clock))
    bad, good = pair([piece("the"), piece("an"), lambda _: overtime(clock, LONG)])
    had: list[LlmResponse] = []

    async def main() -> None:
        async for each in model.generate_content_async(request(), True):
            had.append(each)
            clock.advance(2 * LONG)

    with PoolModel([bad, good], config=PoolConfig(chunk_timeout_s=LONG)) as model:
        with pytest.raises(StreamInterruptedError) as caught:
            run(main)
        assert isinstance(caught.value.__cause__, AttemptTimeoutError)
    assert texts(had) == ["the", "an"]
    assert (bad.closed, good.calls) == (1, 0)


def test_a_stream_that_is_left_early_closes_the_models() -> None:
    """Its slot is free, and nothing is counted."""
    bad = ScriptedModel("a", [piece("the"), HANG])
    with PoolModel([bad]) as model:

        async def main() -> None:
            async with contextlib.aclosing(model.generate_content_async(request(), True)) as said:
                assert texts([await anext(said)]) == ["the"]
            assert bad.closed == 1
            await idle(model.pool)

        run(main)
        assert counts(model.pool.stats()["a"]) == (0, 0, 0)


# -- the request


def test_what_a_model_edits_reaches_no_other_one() -> None:
    """Nor the agent, which learns whose turn it was: its trace says so."""

    def spoil(given: LlmRequest) -> None:
        given.contents.append(types.UserContent("go on"))
        assert given.contents[0].parts is not None
        given.contents[0].parts[0].text = "spoilt"
        given.config.system_instruction = "spoilt"
        assert given.config.labels is not None
        given.config.labels["spoilt"] = "yes"
        given.tools_dict.clear()
        given.append_instructions(["spoilt"])

    tool: Any = object()
    asking = LlmRequest.model_construct(
        model="bad",
        contents=[types.UserContent("hello")],
        config=types.GenerateContentConfig(labels={"a": "b"}),
        tools_dict={"tool": tool},
    )
    bad, good = pair([spoil, GONE])
    with PoolModel([bad, good]) as model:
        run(lambda: responses(model, asking))
    (seen,) = good.requests
    assert seen.model == "good"
    assert seen.contents == [types.UserContent("hello")] == asking.contents
    assert seen.config == types.GenerateContentConfig(labels={"a": "b"}) == asking.config
    assert seen.tools_dict == {"tool": tool} == asking.tools_dict
    assert bad.requests[0].model == "bad"
    assert asking.model == "good"


def test_what_cannot_be_copied_is_shared() -> None:
    """An HTTP client in the options, a tool with a lock: a deep copy would fail."""
    client: Any = threading.Lock()  # as a client has it
    options = types.HttpOptions.model_construct(headers={"a": "b"}, httpx_async_client=client)
    config = types.GenerateContentConfig.model_construct(http_options=options)
    asking = LlmRequest.model_construct(contents=[], config=config, tools_dict={})
    asked_one = ScriptedModel("a")
    with PoolModel([asked_one]) as model:
        run(lambda: responses(model, asking))
    (seen,) = asked_one.requests
    assert seen.config.http_options is not options
    assert seen.config.http_options is not None
    assert seen.config.http_options.httpx_async_client is client
    assert seen.config.http_options.headers is not options.headers


# -- the task


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_runs_in_the_task_and_the_context_of_its_agent(stream: bool) -> None:
    """Variables, the current span of OpenTelemetry, and the task itself."""
    tracer = TracerProvider().get_tracer("tests")
    seen: list[Any] = []

    def look(_: LlmRequest) -> None:
        seen.append((TENANT.get(), trace.get_current_span().get_span_context().span_id))

    bad = ScriptedModel("bad", [look, GONE])
    good = ScriptedModel("good", [look, *([piece("the")] if stream else []), look, whole("the")])

    async def main() -> int:
        TENANT.set("ann")
        with tracer.start_as_current_span("outer") as span:
            await responses(model, stream=stream)
        assert {*bad.tasks, *good.tasks} == {asyncio.current_task()}
        return span.get_span_context().span_id

    with PoolModel([bad, good]) as model:
        span_id = run(main)
    assert seen == [("ann", span_id)] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_in_a_runner_fails_over_from_a_model_that_hangs(
    stream: bool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ADK runs it in a task of its own, in the caller's context: there the cut is heard."""
    monkeypatch.setattr(AgentPool, "start", functools.partial(AgentPool.start, clock=clock))
    seen: list[str] = []
    bad = ScriptedModel("bad", [lambda _: seen.append(TENANT.get()), lambda _: overtime(clock, 60)])
    good = ScriptedModel("good", [lambda _: seen.append(TENANT.get()), whole("hi")])

    async def main() -> list[str]:
        TENANT.set("ann")
        (said,) = await turns(agent_on(model), "hello", stream=stream)
        return texts(said)

    with PoolModel([bad, good], config=PoolConfig(request_timeout_s=60)) as model:
        assert run(main) == ["hi"]
    assert seen == ["ann", "ann"]
    assert bad.tasks == good.tasks
    assert bad.closed == 1


def test_whoever_runs_an_agent_is_told_of_a_stream_that_broke_off() -> None:
    """Behind what it has had; the callback of the agent may answer instead."""
    had: list[str] = []
    runs: list[dict[str, Any]] = [{}, {"on_model_error_callback": lambda **_: whole("sorry")}]
    for options in runs:
        bad, good = pair([piece("the"), GONE])
        with PoolModel([bad, good]) as model:
            broke_off = pytest.raises(StreamInterruptedError)
            with contextlib.nullcontext() if options else broke_off:
                agent = agent_on(model, **options)
                (said,) = run(lambda: turns(agent, "hello", stream=True))  # noqa: B023
                had = texts(said)
    assert had == ["the", "sorry"]


def test_the_tools_of_an_agent_may_ask_the_same_model() -> None:
    """While they run, the model that has called them is free: with room for one call, too."""
    inner = ScriptedModel("m")

    async def ask_again() -> str:
        """Ask the model that has called this."""
        return texts(await responses(model))[0]

    member = Member("m", inner, max_concurrency=1)
    with PoolModel([member], config=PoolConfig(deadline_s=LONG)) as model:
        for stream in (False, True):
            inner.follow([whole(call("ask_again"))], "inner", "outer")
            agent = agent_on(model, tools=[ask_again])
            (said,) = run(lambda: turns(agent, "hello", stream=stream))  # noqa: B023
            assert texts(said)[-1] == "outer"
            (returned,) = [each for event in said for each in event.get_function_responses()]
            assert returned.response == {"result": "inner"}


def test_many_agents_ask_one_model_at_a_time() -> None:
    """A model takes a hundred calls at a time, unless its member says otherwise."""
    waits = 10

    async def main() -> list[list[str]]:
        together = asyncio.Barrier(waits)

        async def meet(_: LlmRequest) -> None:
            await together.wait()

        async with PoolModel([ScriptedModel("a", [meet, whole("met")])]) as model:
            return [texts(each) for each in await asyncio.gather(*map(responses, [model] * waits))]

    assert run(main) == [["met"]] * waits


class LoopBound(ScriptedModel):
    """A model whose client belongs to one loop, by its name in ADK's registry."""

    @classmethod
    def supported_models(cls) -> list[str]:
        return [r"loop-bound-.*"]

    def __init__(self, model: str) -> None:
        super().__init__(model, [self._look, whole("hi")])
        self.__dict__["home"] = asyncio.get_running_loop()
        MADE.append(self)

    def _look(self, _: LlmRequest) -> None:
        assert self.__dict__["home"] is asyncio.get_running_loop()

    async def aclose(self) -> None:
        self._look(request())
        CLOSED.append(self)


MADE: list[LoopBound] = []
CLOSED: list[LoopBound] = []
LLMRegistry.register(LoopBound)


@pytest.mark.parametrize(
    "member",
    ["loop-bound-1", Member("made", factory=lambda: LoopBound("made"))],
    ids=["name", "factory"],
)
def test_each_loop_has_a_model_of_its_own(member: str | Member) -> None:
    """Over two runs: made on its loop, used for all that is asked there, and closed at its end. The
    pool has one, too, for its probe.
    """
    MADE.clear()
    CLOSED.clear()
    with PoolModel([member]) as model:
        agent = agent_on(model)
        for runs in (1, 2):
            said = run(lambda: turns(agent, "one", "two"))
            assert [texts(each) for each in said] == [["hi"], ["hi"]]
            assert (len(MADE), len(CLOSED)) == (runs + 1, runs)
    assert len(CLOSED) == 3


def test_a_factory_that_makes_no_model_has_the_next_one_asked() -> None:
    """It is said what it has made."""
    wrong = Member("wrong", factory=lambda: "gemini")
    with PoolModel([wrong, ScriptedModel("good")]) as model:
        assert texts(asked(model)) == [ANSWER]
    with PoolModel([wrong]) as model, pytest.raises(AllPoolMembersFailedError) as caught:
        asked(model)
    assert isinstance(caught.value.errors[0].error, AgentTypeError)
    assert "must make a model (BaseLlm), got a str" in str(caught.value)


# -- the end of it


def test_when_all_have_failed_whoever_runs_the_agent_is_told_of_each() -> None:
    """The pool's own error, as of any pool."""
    members = [ScriptedModel("a", GONE), ScriptedModel("b", status(503))]
    model = PoolModel(members, config=PoolConfig(max_retries=1))
    with model, pytest.raises(AllPoolMembersFailedError) as caught:
        run(lambda: turns(agent_on(model), "hello"))
    assert [(each.member, each.kind) for each in caught.value.errors] == [
        ("a", FailureKind.UNAVAILABLE),
        ("b", FailureKind.UNAVAILABLE),
    ]


def test_the_callback_of_an_agent_may_answer_instead() -> None:
    """ADK's `on_model_error_callback` is given the same error."""
    told: list[Exception] = []

    def apologise(
        callback_context: CallbackContext, llm_request: LlmRequest, error: Exception
    ) -> LlmResponse:
        told.append(error)
        return whole("sorry")

    with PoolModel([ScriptedModel("a", GONE)], config=PoolConfig(max_retries=0)) as model:
        agent = agent_on(model, on_model_error_callback=apologise)
        said = run(lambda: turns(agent, "hello"))
    assert texts(said[0]) == ["sorry"]
    assert [type(each) for each in told] == [AllPoolMembersFailedError]


def test_an_error_of_the_requests_own_is_raised_as_it_is() -> None:
    """A 400: no other model is asked."""
    failure = status(400)
    bad, good = pair(failure)
    with PoolModel([bad, good]) as model:
        with pytest.raises(ClientError) as caught:
            asked(model)
        assert caught.value is failure
        assert good.calls == 0


def test_each_model_of_many_is_tried() -> None:
    """Though a request has four attempts in other pools."""
    dead = [ScriptedModel(f"dead-{number}", GONE) for number in range(6)]
    with PoolModel([*dead, ScriptedModel("good")]) as model:
        assert texts(asked(model)) == [ANSWER]
        assert [each.calls for each in dead] == [1] * 6


def test_there_is_no_live_mode() -> None:
    """In words, before anything is opened."""
    model = PoolModel([ScriptedModel("a")], name="mine")
    with pytest.raises(NotImplementedError, match="PoolModel 'mine' has no live mode"):
        model.connect(request())


# -- its life


def test_the_pool_begins_with_the_first_request_and_ends_with_close() -> None:
    """An agent may be made where no pool is wanted yet."""
    with EventRecorder() as events:
        model = PoolModel([ScriptedModel("a")])
        assert not events.named("pool.started")
        asked(model)
        assert len(events.named("pool.started")) == 1
        run(model.aclose)
        assert len(events.named("pool.stopped")) == 1
        with pytest.raises(PoolStoppedError):
            asked(model)
        model.close()


def test_a_model_that_nobody_has_any_more_lets_its_pool_stop() -> None:
    """Not before the last copy is gone."""
    with EventRecorder() as events:
        model: PoolModel | None = PoolModel([ScriptedModel("a")])
        assert model is not None
        asked(model)
        other: PoolModel | None = copy.deepcopy(model)
        del model
        gc.collect()
        assert other is not None
        assert texts(asked(other)) == [ANSWER]
        del other
        gc.collect()
        events.wait_for("pool.stopped")


def test_copies_are_the_same_pool() -> None:
    """As ADK makes them of agents: the dead model is dead to all of them."""
    bad, good = pair(GONE)
    with PoolModel([bad, good]) as model:
        agent = agent_on(model)
        clone = agent.clone({"name": "other"})
        assert isinstance(clone, LlmAgent)
        copies = [clone.canonical_model, copy.copy(model), copy.deepcopy(model),
                  model.model_copy(), model.model_copy(deep=True)]  # fmt: skip
        for each in (model, *copies):
            asked(each)
        assert (bad.calls, good.calls) == (1, 6)
        assert model.model_copy(update={"model": "other"}).model == "other"
        with pytest.raises(ValueError, match="update must hold nothing but model, got members"):
            model.model_copy(update={"members": []})


def test_it_is_not_pickled_and_its_repr_shows_names_alone() -> None:
    """A model's own repr may have its key."""
    with PoolModel([ScriptedModel("a"), ScriptedModel("a")]) as model:
        assert repr(model) == str(model) == "<PoolModel models: a, a-2>"
        with pytest.raises(TypeError, match="PoolModel 'models' can be neither pickled nor copied"):
            pickle.dumps(model)


# -- what it is given


def test_models_names_and_members_are_taken() -> None:
    """A name twice is numbered; the options of a member are kept."""
    member = Member("mine", ScriptedModel("a"), weight=2, max_concurrency=3)
    given: list[str | BaseLlm | Member] = ["loop-bound-1"] * 2
    given += [ScriptedModel("mine"), member]
    with PoolModel(given, strategy="round_robin") as model:
        assert model.model == "loop-bound-1"
        stats = model.pool.stats()
        assert [each.name for each in stats.members] == [
            "loop-bound-1", "loop-bound-1-2", "mine-2", "mine",
        ]  # fmt: skip
        assert [each.max_concurrency for each in stats.members] == [100, 100, 100, 3]
    assert PoolModel([member]).model == "a"
    assert PoolModel([member], model="writer").model == "writer"


def test_it_is_capable_of_what_all_of_its_models_are() -> None:
    """The request is made before it is known who answers it."""

    able, unable = ScriptedModel("a", able=True), ScriptedModel("b")
    made = Member("made", factory=lambda: able)
    given: list[tuple[list[str | BaseLlm | Member], bool]] = [
        ([able, ScriptedModel("d", able=True)], True),
        ([able, unable], False),
        ([unable, able], False),
        ([able, made], False),
        ([able, "gemini-2.5-flash"], False),
    ]
    for members, expected in given:
        assert PoolModel(members).capabilities.output_schema_and_tools is expected


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"members": "gemini-2.5-flash"}, TypeError, "members must be an iterable of models"),
        ({"members": ScriptedModel("a")}, TypeError, "got a ScriptedModel"),
        ({"members": None}, TypeError, "got a NoneType"),
        ({"members": []}, ValueError, "members must hold at least one model, got none"),
        ({"members": [3]}, TypeError, "members must hold models, names of models or Member"),
        ({"members": [ScriptedModel]}, TypeError, "got a class ScriptedModel"),
        ({"members": ["no such model"]}, ValueError, "that ADK knows, got 'no such model'"),
        ({"members": [Member("a", len)]}, TypeError, "agent of member 'a' must be a model"),
        ({"members": [Member("a", ScriptedModel("a"))] * 2}, MemberExistsError, "got 'a' more"),
        ({"members": ["loop-bound-1"], "config": 3}, TypeError, "config must be a PoolConfig"),
        ({"members": ["loop-bound-1"], "strategy": "x"}, ValueError, "strategy must be one of"),
        ({"members": ["loop-bound-1"], "name": ""}, ValueError, "name must not be empty"),
        ({"members": ["loop-bound-1"], "model": 3}, TypeError, "model must be a string"),
    ],
)
def test_what_makes_no_pool_is_refused_where_it_is_given(
    arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    """By its field, with the value and the rule."""
    with pytest.raises(kind) as caught:
        PoolModel(**arguments)
    assert words in str(caught.value)


def test_a_pool_of_models_is_a_model_of_another() -> None:
    """Its own error is judged as that of any pool."""
    dead = PoolModel([ScriptedModel("a", GONE)], name="inner", config=PoolConfig(max_retries=0))
    with dead, PoolModel([dead, ScriptedModel("good")], name="outer") as model:
        assert texts(asked(model)) == [ANSWER]


def test_an_unsuccessful_answer_of_one_model_is_told_as_such() -> None:
    """`UnsuccessfulResultError`, without a word of the answer."""
    model = PoolModel([ScriptedModel("a", [whole()])], config=PoolConfig(max_retries=0))
    with model, pytest.raises(AllPoolMembersFailedError) as caught:
        asked(model)
    failure = caught.value.errors[0].error
    assert isinstance(failure, UnsuccessfulResultError)
    assert str(failure) == "a returned an answer without content"

"""A pool in a file over three servers of llmock, which break as providers do and judge the client.
Behaviours 217 and 218.

`make test-clients ARGS=llmock` has it; elsewhere all of this is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    PoolRef,
    Request,
    StreamInterruptedError,
)
from greenroom.messages.events import AttemptFailed, AttemptStarted
from greenroom.testing import EventRecorder

pytest.importorskip(
    "llmock", reason="llmock is not installed: make test-clients ARGS=llmock has it"
)
from llmock import scenarios
from llmock.chaos import StreamChaos
from llmock.ratelimit import LimitSettings
from llmock.simulation import MockResponseSettings
from llmock.testing import LLMockServer
from llmock.verdict import judge

NAMES = ("a", "b", "c")
STREAM_FAULTS = ("disconnect", "truncate", "malformed", "stall")
LIMITS: dict[str, Any] = {"request_timeout_s": 2, "first_chunk_timeout_s": 2, "chunk_timeout_s": 2}
LONG_S = 5.0
"""How long a server is silent: longer than `LIMITS`, and than llmock lets a client sit through."""

NEVER = {"retry_after_ignored", "retried_non_retryable", "retry_storm", "no_read_timeout"}
"""What no server may find of its client."""
FAILED = {"truncated_stream_accepted", "malformed_chunk_ignored"}
"""What it finds of a client that does not come back, as a pool does not: these must be failures."""


@dataclass
class Company:
    """Three servers, and the pools that were started over them.

    Attributes:
        path: of the API under a server's address: another provider's forms.
        events: of the pools; None: nobody asks any more.
    """

    servers: dict[str, Any]
    folder: Path
    path: str = "openai"
    events: EventRecorder = field(default_factory=EventRecorder)

    def breaks(self, names: str, *behaviours: Any) -> None:
        """These do so from now on, each behaviour as often as it says of itself."""
        for name in names:
            self.servers[name].state.scenarios.add(*behaviours)

    def pool(self, members: str = "abc", params: str = "", **settings: Any) -> PoolRef:
        """A pool from a file over these; the first is preferred, unless it says otherwise."""
        settings = {"strategy": "priority", **settings}
        lines = ["[pool]", *(f"{key} = {value!r}" for key, value in settings.items())]
        for rank, name in enumerate(members):
            url = self.servers[name].base_url(self.path)
            lines += ["[[members]]", f'name = "{name}"', 'kind = "openai"', 'model = "gpt-4o"']
            lines += [f'base_url = "{url}"', f"priority = {rank}", params]
        file = self.folder / "pool.toml"
        file.write_text("\n".join(lines))
        return AgentPool.from_toml(file)

    def assert_judged_well(self) -> None:
        """Each attempt was one request, and no server finds fault with its client; of a stream that
        was cut or torn and not asked for again the pool has said that it failed.
        """
        for name, server in self.servers.items():
            records = server.state.journal.records(wait=WAIT_S)
            started = self.events.named(AttemptStarted, name)
            assert len(records) == len(started), name
            failed = {each.request_id for each in self.events.named(AttemptFailed, name)}
            asked = {each.seq: each.body["messages"][-1]["content"] for each in records}
            verdict = judge(records)
            assert not NEVER & {each.code for each in verdict.findings}, verdict.render()
            for finding in verdict.findings:
                if finding.code in FAILED:
                    assert {asked[seq] for seq in finding.seqs} <= failed, verdict.render()

    def together(self) -> set[str]:
        """What is found of the client if the three are taken for one server."""
        servers = self.servers.values()
        records = [each for server in servers for each in server.state.journal.records(wait=WAIT_S)]
        return {each.code for each in judge(records).findings}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Any]]:
    made = {name: LLMockServer() for name in NAMES}
    try:
        yield {name: server.start() for name, server in made.items()}
    finally:
        for server in made.values():
            server.stop()


@pytest.fixture
def company(servers: dict[str, Any], tmp_path: Path) -> Iterator[Company]:
    for server in servers.values():
        state, app = server.state, server.app.state
        state.reset()
        state.limiter.configure(LimitSettings())
        state.stream_chaos = StreamChaos()
        state.chaos.error_rates, state.chaos.latency_ms = {}, 0
        app.mock_response_settings = MockResponseSettings()
    made = Company(servers, tmp_path)
    with made.events:
        yield made
    made.assert_judged_well()


@dataclass
class Heard:
    """What has become of a request."""

    chunks: list[Any]
    member: str | None
    kinds: list[FailureKind]
    error: BaseException | None = None

    @property
    def text(self) -> str:
        return "".join(self.chunks)


def asked(pool: PoolRef, prompt: str = "hello") -> Heard:
    reply = pool.ask(Request(prompt, request_id=prompt), timeout=WAIT_S)
    return Heard([reply.value], reply.member, [each.kind for each in reply.errors])


def streamed(pool: PoolRef, prompt: str = "hello") -> Heard:
    """What comes before the first chunk is raised; what comes after it is told."""
    stream = pool.stream(Request(prompt, request_id=prompt))
    chunks: list[Any] = []
    error: BaseException | None = None
    try:
        for chunk in stream:
            chunks.append(chunk)
    except StreamInterruptedError as broken:
        error = broken
    return Heard(chunks, stream.member, [each.kind for each in stream.errors], error)


BOTH = pytest.mark.parametrize("how", [asked, streamed])
How = Callable[..., Heard]


# -- streams that break


@pytest.mark.parametrize("kind", STREAM_FAULTS)
@pytest.mark.parametrize("at", [0, 1])
def test_a_stream_that_breaks_before_its_first_text_is_the_next_members(
    company: Company, kind: str, at: int
) -> None:
    """Two of the three break; the role that comes first is no text. Nobody is told."""
    company.breaks("ab", scenarios.StreamFault(kind, after_chunks=at, stall_seconds=LONG_S))
    with company.pool(**LIMITS) as pool:
        heard = streamed(pool)
    wanted = FailureKind.TIMEOUT if kind == "stall" else FailureKind.UNAVAILABLE
    assert (heard.member, heard.kinds, heard.error) == ("c", [wanted, wanted], None)
    assert heard.text
    assert "truncated_stream_accepted" not in company.together()


@pytest.mark.parametrize("kind", STREAM_FAULTS)
def test_a_stream_that_breaks_after_its_first_text_is_told_to_its_reader(
    company: Company, kind: str
) -> None:
    """With what has come; nobody is asked again."""
    company.breaks("a", scenarios.StreamFault(kind, after_chunks=3, stall_seconds=LONG_S))
    company.breaks("a", scenarios.Reply(text="one two three four"))
    with company.pool(**LIMITS) as pool:
        heard = streamed(pool)
    assert isinstance(heard.error, StreamInterruptedError)
    assert heard.chunks == list(heard.error.received) == ["one ", "two "]
    assert company.events.named(AttemptStarted, "b") == []


@pytest.mark.parametrize("kind", STREAM_FAULTS)
@pytest.mark.parametrize("on_cut", ["hold", "restart"])
def test_a_pool_can_have_another_member_start_over(
    company: Company, kind: str, on_cut: str
) -> None:
    """Whatever has come by then."""
    company.breaks("a", scenarios.StreamFault(kind, after_chunks=3, stall_seconds=LONG_S))
    company.breaks("b", scenarios.Reply(text="whole answer"))
    with company.pool(on_cut=on_cut, **LIMITS) as pool:
        assert pool.stream(Request("hello", request_id="hello")).collect() == ["whole ", "answer"]
    assert "truncated_stream_accepted" not in company.together()


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
def test_streams_that_break_anywhere_are_told_or_the_next_members(
    company: Company, kind: str
) -> None:
    """llmock's own chance says where, among the first six events."""
    company.breaks("a", scenarios.Reply(text="word " * 9, times=None))
    company.servers["a"].state.stream_chaos = StreamChaos(fault_rates=((kind, 1.0),))
    with company.pool(
        circuit_failure_threshold=99, circuit_min_calls=99, circuit_window=99
    ) as pool:
        for turn in range(12):
            heard = streamed(pool, f"turn {turn}")
            assert heard.text
            assert (heard.error is None) == (heard.member == "b")


def test_a_paced_stream_that_never_stops_for_long_is_whole(company: Company) -> None:
    """The limits are from one chunk to the next."""
    company.servers["a"].state.stream_chaos = StreamChaos(chunk_delay_ms=150)
    company.breaks("a", scenarios.Reply(text=" ".join("abcdefghijklmnopqrst")))
    with company.pool(**LIMITS) as pool:
        heard = streamed(pool)
    assert (heard.member, heard.text) == ("a", " ".join("abcdefghijklmnopqrst"))


# -- answers that do not come


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.AUTH),
        (402, FailureKind.QUOTA),
        (403, FailureKind.AUTH),
        (404, FailureKind.NOT_FOUND),
        (408, FailureKind.TIMEOUT),
        (409, FailureKind.UNAVAILABLE),
        (413, FailureKind.TOO_LARGE),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.UNAVAILABLE),
        (502, FailureKind.UNAVAILABLE),
        (503, FailureKind.UNAVAILABLE),
        (504, FailureKind.TIMEOUT),
        (529, FailureKind.UNAVAILABLE),
    ],
)
@BOTH
def test_a_status_is_the_next_members(
    company: Company, how: How, status: int, kind: FailureKind
) -> None:
    """Each is asked once."""
    company.breaks("ab", scenarios.Fail(status))
    with company.pool() as pool:
        heard = how(pool)
    assert (heard.member, heard.kinds, heard.error) == ("c", [kind, kind], None)


@pytest.mark.parametrize("status", [400, 422])
@BOTH
def test_a_request_that_is_at_fault_is_told_to_its_caller(
    company: Company, how: How, status: int
) -> None:
    """After one request in all: it would fail everywhere."""
    company.breaks("abc", scenarios.Fail(status, times=None))
    with company.pool() as pool, pytest.raises(Exception, match=str(status)) as caught:
        how(pool)
    assert getattr(caught.value, "status_code", None) == status
    assert len(company.events.named(AttemptStarted)) == 1
    assert company.together() == set()


@pytest.mark.parametrize(
    ("behaviour", "hows"),
    [
        (scenarios.Delay(LONG_S), (asked, streamed)),
        (scenarios.SlowFirstToken(LONG_S), (streamed,)),
    ],
    ids=["delay", "slow_first_token"],
)
def test_a_server_that_is_too_slow_is_left(
    company: Company, behaviour: Any, hows: tuple[How, ...]
) -> None:
    """At the limit of the attempt, or of its first chunk."""
    for turn, how in enumerate(hows):
        company.breaks("a", behaviour)
        with company.pool(**LIMITS) as pool:
            heard = how(pool, f"turn {turn}")
        assert (heard.member, heard.kinds) == ("b", [FailureKind.TIMEOUT])


def test_a_server_that_is_slow_within_the_limits_answers(company: Company) -> None:
    """Nothing is given up early."""
    company.servers["a"].state.chaos.latency_ms = 200
    company.breaks("a", scenarios.SlowFirstToken(0.2))
    with company.pool() as pool:
        assert (streamed(pool).member, asked(pool, "again").member) == ("a", "a")


# -- waiting as long as one is told to


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.parametrize("after_s", [None, 0.4])
def test_a_server_that_says_when_is_not_asked_before(
    company: Company, status: int, after_s: float | None
) -> None:
    """A pool of one waits it out, and its one request goes there three times."""
    company.breaks("a", scenarios.Fail(status, retry_after=after_s, times=2))
    with company.pool("a") as pool:
        heard = asked(pool)
    assert heard.member == "a"
    assert len(company.events.named(AttemptStarted, "a")) == 3


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_says_when_is_left_alone_by_all_requests(
    company: Company, status: int
) -> None:
    """The same prompt twenty times, which the server takes for one client's retries."""
    company.breaks("a", scenarios.Fail(status, retry_after=60, times=None))
    with company.pool() as pool:
        heard = [asked(pool, "same") for _ in range(20)]
    assert [each.member for each in heard] == ["b"] * 20
    assert len(company.events.named(AttemptStarted, "a")) == 1


@pytest.mark.parametrize("status", [401, 500, 502])
def test_a_server_that_is_down_is_no_longer_asked(company: Company, status: int) -> None:
    """Its breaker opens, so there is no storm on it."""
    company.breaks("a", scenarios.Fail(status, times=None))
    with company.pool() as pool:
        heard = [asked(pool, "same") for _ in range(20)]
    assert [each.member for each in heard] == ["b"] * 20


def test_without_a_good_member_the_attempts_are_bounded(company: Company) -> None:
    """And the error names all of them."""
    company.breaks("abc", scenarios.Fail(500, times=None))
    with company.pool() as pool, pytest.raises(AllPoolMembersFailedError) as caught:
        asked(pool)
    assert {each.member for each in caught.value.errors} == {"a", "b", "c"}
    assert len(company.events.named(AttemptStarted)) == 4


def test_quotas_are_kept_to(company: Company) -> None:
    """The server lets through what it lets through; the rest is the next member's."""
    company.servers["a"].state.limiter.configure(LimitSettings(rpm=5))
    with company.pool() as pool:
        heard = [asked(pool, "same") for _ in range(12)]
    assert [each.member for each in heard] == ["a"] * 5 + ["b"] * 7
    assert heard[5].kinds == [FailureKind.RATE_LIMITED]
    assert len(company.events.named(AttemptStarted, "a")) == 6


def test_a_quota_of_tokens_is_kept_to(company: Company) -> None:
    """Likewise; what is asked for counts."""
    company.servers["a"].state.limiter.configure(LimitSettings(tpm=1_500))
    with company.pool(params="params = { max_tokens = 1000 }") as pool:
        heard = [asked(pool, "same") for _ in range(3)]
    assert [each.member for each in heard] == ["a", "b", "b"]
    assert heard[1].kinds == [FailureKind.RATE_LIMITED]


@BOTH
def test_a_prompt_that_does_not_fit_is_the_next_members(company: Company, how: How) -> None:
    """It says nothing against the first, which is asked again."""
    company.servers["a"].state.limiter.configure(LimitSettings(context_window=20))
    with company.pool() as pool:
        heard = [how(pool, f"{turn} " + "word " * 100) for turn in range(6)]
        assert [(each.member, each.kinds) for each in heard] == [("b", [FailureKind.TOO_LARGE])] * 6
        assert how(pool, "short").member == "a"


def test_statuses_by_chance_are_nobodys_but_the_pools(company: Company) -> None:
    """All requests to two of three fail, by statuses of llmock's chance."""
    rates = {401: 0.1, 404: 0.1, 429: 0.2, 500: 0.3, 503: 0.3}
    for name in "ab":
        company.servers[name].state.chaos.error_rates = rates
    with company.pool() as pool:
        assert {asked(pool, f"turn {turn}").member for turn in range(30)} == {"c"}


# -- what the model says


@BOTH
def test_answers_come_as_they_are(company: Company, how: How) -> None:
    """Not ASCII, with breaks of lines that are none of the protocol's; in every style."""
    text = "Grüße € 日本語 \u2028 \x85 data: [DONE]\n\nevent: x\r\nend"
    company.breaks("a", scenarios.Reply(text=text), scenarios.Reply(text=" "))
    with company.pool() as pool:
        assert how(pool).text == text
        assert how(pool, "blank").text == " "
        for style in ("static", "hello", "echo", "varied"):
            app = company.servers["a"].app.state
            app.mock_response_settings = MockResponseSettings(response_style=style)
            assert how(pool, style).member == "a"


@pytest.mark.parametrize(
    "fault", [None, "malformed_arguments", "unknown_tool"], ids=lambda each: each or "whole"
)
def test_tool_calls_pass_through(company: Company, fault: str | None) -> None:
    """Broken ones too: which tools there are is its caller's to know."""
    call = scenarios.ToolCall("search", {"query": "a long question, in parts"})
    company.breaks("a", scenarios.Reply(text="hm", tool_calls=(call,), times=2))
    if fault is not None:
        company.breaks("a", scenarios.ToolFault(fault, times=2, match=scenarios.Match()))
    with company.pool() as pool:
        message = asked(pool, "whole").chunks[0]
        heard = streamed(pool, "in parts")
    assert (message["role"], message["content"]) == ("assistant", "hm")
    function = message["tool_calls"][0]["function"]
    assert heard.chunks[0] == "hm"
    parts = [each["tool_calls"][0]["function"] for each in heard.chunks[1:]]
    assert parts[0]["name"] == function["name"]
    assert "".join(each.get("arguments", "") for each in parts) == function["arguments"]
    assert (function["name"] == "search") == (fault != "unknown_tool")


TOOLS = 'params = { tools = [{ type = "function", function = { name = "clock" } }] }'


@BOTH
def test_tools_that_are_offered_are_called(company: Company, how: How) -> None:
    """As llmock does by itself."""
    with company.pool(params=TOOLS) as pool:
        chunk = how(pool, "what does the clock say").chunks[0]
    assert chunk["tool_calls"][0]["function"]["name"] == "clock"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_an_answer_that_was_cut_off_or_stopped_is_none(company: Company, reason: str) -> None:
    """The first is another member's, the second its caller's; in a stream its reader is told."""
    company.breaks("a", scenarios.Reply(text="half", finish_reason=reason, times=2))
    with company.pool() as pool:
        if reason == "length":
            assert asked(pool, "whole").kinds == [FailureKind.TOO_LARGE]
        else:
            with pytest.raises(Exception, match="content filter"):
                asked(pool, "whole")
        heard = streamed(pool, "in parts")
    assert isinstance(heard.error, StreamInterruptedError)
    assert heard.chunks == ["half"]


@BOTH
def test_an_answer_without_content_is_the_next_members(company: Company, how: How) -> None:
    """It is none, whatever its status."""
    company.breaks("a", scenarios.Reply(text=""))
    with company.pool() as pool:
        heard = how(pool)
    assert heard.member == "b"
    assert heard.text


@BOTH
def test_more_of_the_protocol_changes_nothing(company: Company, how: How) -> None:
    """Several choices, of which the first is the answer; a usage at the end."""
    company.breaks("a", scenarios.Reply(text="one two", times=2))
    with company.pool(
        params="params = { n = 3, stream_options = { include_usage = true } }"
    ) as pool:
        assert how(pool).text == "one two"


# -- the forms of other providers


@pytest.mark.parametrize(
    "provider", ["openai", "mistral", "groq", "together", "perplexity", "ai21", "xai"]
)
@BOTH
def test_other_providers_of_the_protocol_are_read_like_the_first(
    company: Company, how: How, provider: str
) -> None:
    """Their answers, errors, prompts that are too long, and streams that end early."""
    company.path = provider
    with company.pool() as pool:
        assert how(pool, "good").member == "a"
        company.breaks("a", scenarios.Fail(500), scenarios.Fail(413), scenarios.Fail(403))
        kinds = [how(pool, f"turn {turn}").kinds for turn in range(3)]
        assert kinds == [[FailureKind.UNAVAILABLE], [FailureKind.TOO_LARGE], [FailureKind.AUTH]]
        company.servers["a"].state.limiter.configure(LimitSettings(context_window=20))
        assert how(pool, "word " * 100).kinds == [FailureKind.TOO_LARGE]
        if how is streamed:
            company.breaks("a", scenarios.StreamFault("truncate", after_chunks=1))
            assert how(pool, "cut").kinds == [FailureKind.UNAVAILABLE]
        company.breaks("a", scenarios.Fail(429))
        assert how(pool, "throttled").kinds == [FailureKind.RATE_LIMITED]


# -- all at once


def a_fault(rng: random.Random) -> Any:
    """Whatever a server may do that another may mend."""
    at = rng.choice((0, 1, 3))
    return rng.choice(
        [
            *(scenarios.StreamFault(each, after_chunks=at) for each in STREAM_FAULTS[:3]),
            *(scenarios.StreamFault(each, after_chunks=at) for each in STREAM_FAULTS[:3]),
            scenarios.StreamFault("stall", after_chunks=at, stall_seconds=LONG_S),
            *(scenarios.Fail(status) for status in (408, 409, 413, 500, 502)),
            *(scenarios.Fail(status, retry_after=0.05) for status in (429, 503, 529)),
            scenarios.Reply(text=""),
            scenarios.Reply(text="half", finish_reason="length"),
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_reaches_no_reader_before_the_first_text(company: Company, seed: int) -> None:
    """Eight callers on the app's loop; two servers do whatever a server may do, one is good."""
    rng = random.Random(seed)

    async def one(pool: PoolRef, at: int, streams: bool) -> None:
        if rng.random() < 0.4:
            company.breaks(rng.choice("ab"), a_fault(rng))
        request = Request(f"prompt {at}", request_id=f"prompt {at}")
        if not streams:
            assert (await pool.ask(request, block=False, timeout=WAIT_S)).value
            return
        chunks: list[Any] = []
        with contextlib.suppress(StreamInterruptedError):
            async for chunk in pool.stream(request):
                chunks.append(chunk)
        assert chunks

    async def caller(pool: PoolRef, turns: Iterator[tuple[int, bool]]) -> None:
        for at, streams in turns:
            await one(pool, at, streams)

    async def main() -> None:
        settings: dict[str, Any] = {
            **LIMITS,
            "circuit_failure_rate": 1.0,
            "circuit_failure_threshold": 99,
        }
        async with company.pool(strategy="round_robin", **settings) as pool:
            turns = iter([(at, rng.random() < 0.6) for at in range(300)])
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(caller(pool, turns))

    asyncio.run(main())
    kinds = {each.kind for each in company.events.named(AttemptFailed)}
    assert kinds >= {FailureKind.TIMEOUT, FailureKind.UNAVAILABLE, FailureKind.RATE_LIMITED}

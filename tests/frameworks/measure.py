"""What a case's members do at a provider that answers, fails, or cuts its stream: a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields, replace
from importlib import metadata
from types import FunctionType

from helpers_pools import ask, pool_of
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from frameworks.case import Case, Make
from frameworks.provider import ANSWER, Backend, Provider
from greenroom import (
    AgentTypeError,
    AllPoolMembersFailedError,
    DeadlineExceededError,
    PoolError,
    PoolRef,
    Request,
    StreamInterruptedError,
)

LIMIT_S = 60.0
"""For what is to go well."""
OUTAGE_S = 20.0
"""For how long the requests of an outage are counted."""
STATUSES = ("503", "429")
CALLERS = ("I am Ann.", "I am Bob.", "I am Cleo.")

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


class BrokenPromise(AssertionError):
    """A recipe that does not do what every recipe is to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the page's table, as it stands there."""

    framework: str
    version: str
    as_it_is: str
    ask: str
    stream: str
    context: str
    a_503: str
    requests: str
    history: str

    @classmethod
    def heads(cls) -> list[str]:
        return [each.name.replace("_", " ") for each in fields(cls)]

    def cells(self) -> list[str]:
        return list(asdict(self).values())


@dataclass(frozen=True, slots=True)
class Outage:
    """What became of one request whose only member has an outage.

    Attributes:
        requests: at the provider, "3+" if it was still at it after a while.
        kind: of the failure; None if a value came instead.
    """

    requests: str
    kind: str | None


def measure(name: str, case: Case, provider: Provider) -> Row:
    """Everything; raises a `BrokenPromise` for what no table could excuse."""
    measuring = _Measuring(name, case, provider)
    default, recipe = measuring.outages(case.unswitched or case.plain), measuring.outages(None)
    return Row(
        framework=name.replace("_", "-"),
        version=metadata.version(case.package),
        as_it_is=measuring.as_it_is(),
        ask=measuring.asked(),
        stream=measuring.streamed(),
        context=measuring.context(),
        a_503=_failure(default["503"], recipe["503"]),
        requests=_requests(default, recipe),
        history=measuring.history(),
    )


class _Measuring:
    def __init__(self, name: str, case: Case, provider: Provider) -> None:
        self._name = name
        self._case = case
        self._provider = provider

    def as_it_is(self) -> str:
        """Whether the recipe is the framework's own object, and what that does if it is not."""
        own = self._case.member("a", self._backend().url).agent
        if not self._case.why:
            _promise(not _is_ours(own), "the recipe is no object of the framework's")
            return "yes"
        _promise(_is_ours(own), "the recipe is the framework's own object, why then the reason?")
        try:
            with pool_of(self._case.plain("a", self._backend().url)) as pool:
                pool.ask(Request(CALLERS[0]), timeout=LIMIT_S)
        except AgentTypeError:
            return f"refused: {self._case.why}"
        except PoolError:
            return f"fails: {self._case.why}"
        return f"works, but {self._case.why}"

    def asked(self) -> str:
        """Fails over from a 503, by one request, to an answer; the name of its type."""
        down, up = self._backend("503"), self._backend()
        with self._pool(self._case.member, down, up) as pool:
            reply = pool.ask(Request(CALLERS[0]), timeout=LIMIT_S)
        _promise(reply.member == "b", f"answered by {reply.member}")
        _promise(len(down.asked) == 1, f"{len(down.asked)} requests of an outage")
        said = self._case.said(reply.value)
        _promise(said == ANSWER, f"said {said!r}")
        return _type_name(reply.value)

    def streamed(self) -> str:
        """The same, in chunks; and whether the end of a stream without its end mark is seen."""
        if self._case.streaming is None:
            return "no"
        down, up = self._backend("503"), self._backend()
        with self._pool(self._case.streaming, down, up) as pool:
            chunks = pool.stream(Request(CALLERS[0]), timeout=LIMIT_S).collect()
        said = "".join(map(self._case.piece, chunks))
        _promise(said == ANSWER, f"streamed {said!r}")
        _promise(len(chunks) > 1, "one chunk is no stream")
        types = dict.fromkeys(map(_type_name, chunks))
        return f"{' and '.join(types)}; a cut is {'seen' if self._cut_is_seen() else 'not seen'}"

    def _cut_is_seen(self) -> bool:
        assert self._case.streaming is not None
        with self._pool(self._case.streaming, self._backend("cut")) as pool:
            try:
                pool.stream(Request(CALLERS[0]), timeout=LIMIT_S).collect()
            except (StreamInterruptedError, AllPoolMembersFailedError):
                return True
        return False

    def context(self) -> str:
        """What a tool sees of its caller's: a variable, and the trace that it is a part of."""
        if self._case.tooled is None:
            return "no code of yours runs in it"
        seen: list[tuple[str, int]] = []

        def look() -> str:
            """Look at the weather."""
            span = trace.get_current_span().get_span_context()
            seen.append((TENANT.get(), span.trace_id))
            return "sunny"

        member = self._case.tooled("a", self._backend().url, look)
        tracer = TracerProvider().get_tracer("test")
        TENANT.set("ann's")
        with pool_of(member) as pool, tracer.start_as_current_span("the caller's") as span:
            reply = pool.ask(Request(CALLERS[0]), timeout=LIMIT_S)
        _promise(self._case.said(reply.value) == ANSWER, "the tool's answer changed the model's")
        _promise(bool(seen), "the tool was not called")
        right = [("ann's", span.get_span_context().trace_id)] * len(seen)
        return "yes" if seen == right else "no"

    def outages(self, make: Make | None) -> dict[str, Outage]:
        return {each: self._outage(make or self._case.member, each) for each in STATUSES}

    def _outage(self, make: Make, status: str) -> Outage:
        backend = self._backend(status)
        try:
            with self._pool(make, backend) as pool:
                pool.ask(Request(CALLERS[0], max_retries=0), timeout=OUTAGE_S)
        except AgentTypeError:
            return Outage("none", "refused")
        except AllPoolMembersFailedError as error:
            return Outage(f"{len(backend.asked)}", error.errors[-1].kind.value)
        except DeadlineExceededError:
            return Outage(f"{len(backend.asked)}+", "timeout")
        return Outage(f"{len(backend.asked)}", None)

    def history(self) -> str:
        """Whether a request has in it what others have said before, or say at the same time."""
        _promise(not self._mixes(self._case.member), "callers see one another's history")
        mixes = self._case.why and self._mixes(self._case.plain)
        return "mixes as it is, kept apart by the recipe" if mixes else "apart"

    def _mixes(self, make: Make) -> bool:
        backend = self._backend()
        try:
            with self._pool(make, backend) as pool:
                pool.ask(Request(CALLERS[0]), timeout=LIMIT_S)
                for each in [ask(pool, said, timeout=LIMIT_S) for said in CALLERS[1:]]:
                    each.get()
        except (AgentTypeError, PoolError):
            return False
        texts = map(str, backend.asked)
        return any(sum(caller in text for caller in CALLERS) > 1 for text in texts)

    def _backend(self, does: str = "answer") -> Backend:
        return self._provider.backend(does, self._case.script)

    @contextmanager
    def _pool(self, make: Make, *backends: Backend) -> Iterator[PoolRef]:
        members = [make(name, each.url) for name, each in zip("abc", backends, strict=False)]
        with pool_of(*(replace(each, priority=i) for i, each in enumerate(members))) as pool:
            yield pool


def _is_ours(agent: object) -> bool:
    """Whether it is a function or an object of the case's own, or comes from a factory."""
    module = agent.__module__ if isinstance(agent, FunctionType) else type(agent).__module__
    return agent is None or module.startswith("frameworks.")


def _promise(kept: bool, otherwise: str) -> None:
    if not kept:
        raise BrokenPromise(otherwise)


def _type_name(value: object) -> str:
    return f"`{type(value).__name__}`"


def _failure(default: Outage, recipe: Outage) -> str:
    """What the caller of one member gets of a 503."""
    _promise(recipe.kind is not None, "the recipe answers an outage by a value")
    if default.kind is None:
        return f"a value as it is; `{recipe.kind}` by the recipe"
    return f"`{recipe.kind}`"


def _requests(default: dict[str, Outage], recipe: dict[str, Outage]) -> str:
    """By default, and with the switch that the recipe has."""
    for status, outage in recipe.items():
        _promise(outage.requests == "1", f"{outage.requests} requests of a {status}")
    counts = {status: outage.requests for status, outage in default.items()}
    if len(set(counts.values())) == 1:
        return f"{counts['503']} → 1"
    return ", ".join(f"{status}: {count} → 1" for status, count in counts.items())

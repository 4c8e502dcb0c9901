"""How an agent may say that it is to be told of its call: in each way that Python has for it."""

from __future__ import annotations

import functools
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import CallContext, Member

POSTPONED = "from __future__ import annotations\n"
IMPORTS = """
import typing
import typing as t
from typing import TYPE_CHECKING, Annotated, Any, Optional, Union
import greenroom
from greenroom import CallContext
from greenroom import CallContext as Ctx
if TYPE_CHECKING:
    from somewhere import Hidden
MaybeCtx = Optional["Ctx"]
"""
WRITTEN = [
    "CallContext",
    "'CallContext'",
    "\"'CallContext'\"",
    "greenroom.CallContext",
    "'greenroom.CallContext'",
    "Ctx",
    "'Ctx'",
    "MaybeCtx",
    "CallContext | None",
    "'CallContext | None'",
    "'None | Ctx'",
    "Optional[CallContext]",
    "Optional['CallContext']",
    "t.Optional['Ctx']",
    "'Union[CallContext, None]'",
    "Union['CallContext', None]",
    "'typing.Union[None, Ctx]'",
    "Annotated[CallContext, 'x']",
    "Annotated['CallContext', 'x']",
    "Annotated[Optional['CallContext'], 'x']",
    "Optional[Annotated['Ctx', 'x']]",
]
NOT_TO_BE_FOUND_OUT = [
    "'CallContext | Hidden'",
    "Optional['hidden.CallContext']",
    "'hidden.Optional[CallContext]'",
    "'Union[Hidden, CallContext]'",
    "\"Annotated['CallContext', Hidden]\"",
]
ANOTHER = [
    "Any",
    "'Any'",
    "'str | None'",
    "Optional['Hidden']",
    "'Hidden[CallContext]'",
    "'list[CallContext]'",
    "Annotated[str, CallContext]",
    "\"Annotated['Hidden', CallContext]\"",
    "'CallContext of the call'",
    "''",
    "'1 / 0'",
    "'exit()'",
    "'(' * 9999",
]


def written(source: str, *, postponed: bool) -> Callable[..., Any]:
    """The `agent` of a module of this text."""
    names: dict[str, Any] = {"__name__": "written"}
    code = (POSTPONED if postponed else "") + IMPORTS + textwrap.dedent(source)
    exec(compile(code, "written.py", "exec", dont_inherit=True), names)
    agent: Callable[..., Any] = names["agent"]
    return agent


def told(agent: Any) -> Any:
    """What it answers, called by a pool: the name of its member, if it was told of the call."""
    with pool_of(Member("a", agent)) as pool:
        return pool.execute("x", timeout=WAIT_S)


@pytest.mark.parametrize("default", ["", " = None"], ids=["wanted", "default"])
@pytest.mark.parametrize("postponed", [False, True], ids=["at once", "postponed"])
@pytest.mark.parametrize("annotation", [*WRITTEN, *NOT_TO_BE_FOUND_OUT])
def test_an_agent_is_told_however_it_writes_the_annotation(
    annotation: str, postponed: bool, default: str
) -> None:
    """Quoted, postponed, under another name, optional; and what else it says is not looked at."""
    agent = written(
        f"""
        def agent(payload: "Hidden", call: {annotation}{default}):
            return call and call.member
        """,
        postponed=postponed,
    )
    assert told(agent) == "a"


@pytest.mark.parametrize("postponed", [False, True], ids=["at once", "postponed"])
@pytest.mark.parametrize("annotation", ANOTHER)
def test_an_annotation_that_says_something_else_is_left_alone(
    annotation: str, postponed: bool
) -> None:
    """Nor does anything that it raises come out."""
    agent = written(
        f"""
        def agent(payload, call: {annotation} = None):
            return call
        """,
        postponed=postponed,
    )
    assert told(agent) is None


def test_another_class_of_that_name_is_another_class() -> None:
    """It goes by what the name stands for, where that can be found out."""
    agent = written(
        """
        class CallContext:
            pass

        def agent(payload, call: CallContext | None = None):
            return call
        """,
        postponed=True,
    )
    assert told(agent) is None


ALIASES = {
    "type Told = CallContext": "a",
    "type Told = Optional['CallContext']": "a",
    "type Told = Hidden": None,
    "type Told = Told | None": None,
}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no such statement yet")
@pytest.mark.parametrize(("statement", "answer"), ALIASES.items(), ids=ALIASES)
@pytest.mark.parametrize("annotation", ["Told", "Told | None", "'Told'"])
def test_an_alias_is_what_it_stands_for(
    statement: str, answer: str | None, annotation: str
) -> None:
    """As far as that can be found out."""
    agent = written(
        f"""
        {statement}

        def agent(payload, call: {annotation} = None):
            return call and call.member
        """,
        postponed=False,
    )
    assert told(agent) == answer


OTHER_AGENTS = {
    "a coroutine function": """
        async def agent(payload, call: Ctx):
            return call.member
        """,
    "an object that is called": """
        class Agent:
            def __call__(self, payload, *, call: Ctx):
                return call.member
        agent = Agent()
        """,
    "a run method": """
        class Agent:
            def run(self, call: Ctx, payload):
                return call.member
        agent = Agent()
        """,
    "a bound method": """
        class Agent:
            def ask(self, payload, call: Ctx, /):
                return call.member
        agent = Agent().ask
        """,
    "a class method": """
        class Agent:
            @classmethod
            def ask(cls, payload, call: Ctx):
                return call.member
        agent = Agent.ask
        """,
    "a class": """
        class agent:
            def __init__(self, payload, call: Ctx):
                self.member = call.member
            def __eq__(self, other):
                return self.member == other
        """,
    "a class by __new__": """
        class agent:
            def __new__(cls, payload, call: Ctx):
                return call.member
        """,
    "a partial": """
        import functools
        def of_three(tenant, payload, call: Ctx):
            return call.member
        agent = functools.partial(of_three, "eu")
        """,
    "a partial of a method": """
        import functools
        class Agent:
            def ask(self, tenant, payload, call: Ctx):
                return call.member
        agent = functools.partial(functools.partial(Agent().ask, "eu"))
        """,
    "a cached one": """
        import functools
        @functools.lru_cache
        def agent(payload, call: Ctx):
            return call.member
        """,
}


@pytest.mark.parametrize("source", OTHER_AGENTS.values(), ids=OTHER_AGENTS)
def test_an_agent_of_any_kind_is_told(source: str) -> None:
    """The names are those of the module in which the annotation stands."""
    assert told(written(source, postponed=True)) == "a"


def test_a_decorator_of_another_module_passes_the_call_on() -> None:
    """The annotation is that of what it wraps, and so are the names in it."""
    agent = written("def agent(payload, call: Ctx): return call.member", postponed=True)

    @functools.wraps(agent)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return agent(*args, **kwargs)

    assert told(wrapper) == "a"


def test_a_request_looks_at_no_annotation(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at when the agent is given, and never again."""
    looks: list[Any] = []

    def agent(payload: Any, call: CallContext) -> Any:
        return call.member

    with pool_of(Member("a", agent)) as pool:
        monkeypatch.setattr("greenroom.messages.agent_shape._meant", lambda *_: looks.append(1))
        assert pool.execute("x", timeout=WAIT_S) == "a"
    assert looks == []

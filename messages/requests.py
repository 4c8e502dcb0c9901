"""What an app says to a pool: commands in the imperative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypedDict, TypeVar

from greenroom.messages import _validate as check
from greenroom.messages.configure import Configure
from greenroom.messages.limits import Costs, checked_costs
from greenroom.messages.member import Member, Names
from greenroom.messages.status import FailureKind, ReportedState

if TYPE_CHECKING:
    from greenroom.messages.events import Event

LONGEST_REPORT_S = 86_400.0
"""The longest time for which somebody outside can have a member left alone."""

P = TypeVar("P")
R = TypeVar("R")


class EachSettings(TypedDict, total=False):
    """The options of `RequestOptions` that many requests may have in common, beside `timeout`."""

    key: str | None
    priority: int
    idempotent: bool
    max_retries: int | None
    metadata: Mapping[str, Any]
    only: Names | None
    exclude: Names | None
    prefer: Names | None
    cost: Costs | None
    timeout_s: float | None


class RequestSettings(EachSettings, total=False):
    """All of them, beside `timeout`."""

    request_id: str | None


class AcquireSettings(TypedDict, total=False):
    """Those of one attempt, beside `timeout`."""

    key: str | None
    priority: int
    max_retries: int | None
    metadata: Mapping[str, Any]
    only: Names | None
    exclude: Names | None
    prefer: Names | None
    cost: Costs | None
    request_id: str | None
    timeout_s: float | None


def _take_older_name(options: Any, timeout_s: Any, above: bool = False) -> None:
    check.number("timeout_s", timeout_s, above=above)
    check_one_timeout(options.timeout, timeout_s)
    object.__setattr__(options, "timeout", timeout_s)


def _check_selection(options: RequestOptions) -> None:
    for field_ in ("only", "exclude", "prefer"):
        value = getattr(options, field_)
        if value is not None:
            object.__setattr__(options, field_, check.names(field_, value))
    if options.only == ():
        raise ValueError("only must name somebody, got nobody")


def check_one_timeout(timeout: float | None, timeout_s: float | None) -> None:
    """Refuse a time limit that was given by both of its names.

    Raises:
        TypeError: it was.
    """
    if timeout is not None and timeout_s is not None:
        raise TypeError(
            "timeout and timeout_s must not be given together: they are one, "
            f"got timeout={timeout!r}, timeout_s={timeout_s!r}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RequestOptions:
    """What `Request` and `Apply` have in common.

    Args:
        key: the routing key of `consistent_hash`; reaches the agent too.
        timeout: seconds for the whole request, retries and waiting included.
        priority: where requests wait for a member, a higher one is served first, equal ones in
            order; waiting for `PoolConfig.priority_ageing_s` counts as much as one level. (With
            `Member.priority` it is the other way round: the lower number is preferred.) Reaches the
            agent, too.
        idempotent: False forbids a second attempt once the first has started.
        max_retries: overrides the pool's for this request.
        metadata: anything; reaches the agent, is never logged.
        request_id: an id of the app's own, for tracing; made by the pool when None.
        only: names or tags of members, one or several: nobody else may have it, for a retry or a
            hedge neither. If nobody in the pool has such a name, it is refused at once, with an
            `UnknownMemberError`.
        exclude: names or tags of those that must not have it.
        prefer: names or tags of those that are to have it as long as one of them is available, and
            the others after that.
        cost: an estimate of what it costs, for the rate limits of members: `{"tokens": 1200}`,
            rounded up to whole numbers; None: what `PoolConfig.cost` says of its payload.
        timeout_s: the older name of `timeout`; one of them may be given.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    key: str | None = None
    timeout: float | None = None
    priority: int = 0
    idempotent: bool = True
    max_retries: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request_id: str | None = None
    only: Names | None = None
    exclude: Names | None = None
    prefer: Names | None = None
    cost: Costs | None = None
    timeout_s: InitVar[float | None] = None

    def __post_init__(self, timeout_s: float | None) -> None:
        # Requests are made by the thousand, most of them with the defaults: those need no check.
        if self.key is not None and not isinstance(self.key, str):
            raise check.misfit("key must be a string", self.key)
        if timeout_s is not None:
            _take_older_name(self, timeout_s, above=True)
        elif self.timeout is not None:
            check.number("timeout", self.timeout, above=True)
        if type(self.priority) is not int:
            check.whole("priority", self.priority, minimum=None)
        if self.idempotent is not True:
            check.flag("idempotent", self.idempotent)
        if self.max_retries is not None:
            check.whole("max_retries", self.max_retries)
        if self.metadata != {}:
            check.mapping("metadata", self.metadata, secret=True)
        if self.request_id is not None:
            check.name("request_id", self.request_id, longest=check.LONGEST_ID)
        if self.only is not None or self.exclude is not None or self.prefer is not None:
            _check_selection(self)
        if self.cost is not None:
            object.__setattr__(self, "cost", checked_costs("cost", self.cost))
        # Of `Request` alone; here, since a second method would be one more call of each request.
        if (durable := getattr(self, "durable", False)) is not False:
            check.flag("durable", durable)

    def __repr__(self) -> str:
        """What differs from the defaults, and nothing of what the app alone may know."""
        shown = [self._content()]
        for each in fields(RequestOptions):
            value = getattr(self, each.name)
            if each.name == "metadata":
                shown += [f"metadata=<{len(value)}>"] if value else []
            elif value != each.default:
                shown.append(f"{each.name}={value!r}")
        return f"{type(self).__name__}({', '.join(filter(None, shown))})"

    def _content(self) -> str:
        return ""


@dataclass(frozen=True, slots=True, repr=False)
class Request(RequestOptions, Generic[P]):
    """One piece of work for whichever member the strategy picks.

    Args:
        durable: of what is told, never of what is asked: it is stored by the pool's courier before
            `tell` returns, and worked off by any process that runs the same courier. Its `timeout`
            is that of each delivery.
    """

    payload: P = field(kw_only=False)
    durable: bool = field(default=False, kw_only=True)

    def _content(self) -> str:
        return f"<{type(self.payload).__name__}>" + (", durable=True" if self.durable else "")


@dataclass(frozen=True, slots=True, repr=False)
class Apply(RequestOptions, Generic[R]):
    """A function to run on whichever agent is picked: `function(agent)`, sync or async."""

    function: Callable[[Any], R] = field(kw_only=False)

    def __post_init__(self, timeout_s: float | None) -> None:
        RequestOptions.__post_init__(self, timeout_s)
        check.function("function", self.function, secret=True)

    def _content(self) -> str:
        return str(getattr(self.function, "__qualname__", f"<{type(self.function).__name__}>"))


@dataclass(frozen=True, slots=True, repr=False)
class Acquire(RequestOptions):
    """An agent for the caller's own code: what `pool.attempts` and `pool.acquire` send.

    Args:
        stream: whether the code passes chunks on, so that the limits of streams hold for it, and
            not that of a whole answer.
        can_be_cut: whether the code runs in a task: it can be told to end then.
    """

    payload: ClassVar[None] = None
    stream: bool = False
    can_be_cut: bool = False

    def __post_init__(self, timeout_s: float | None) -> None:
        RequestOptions.__post_init__(self, timeout_s)
        check.flag("stream", self.stream)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give a request up. Answered with whether there was something to cancel."""

    request_id: str

    def __post_init__(self) -> None:
        check.text("request_id", self.request_id)


@dataclass(frozen=True, slots=True)
class GetStats:
    """Ask for `PoolStats`."""


@dataclass(frozen=True, slots=True)
class GetMembers:
    """Ask for the members as they are to be: a dict of who bears each name once those have left
    that are about to; None where nobody does.
    """


@dataclass(frozen=True, slots=True)
class AddMember:
    """Take a member in at run time."""

    member: Member

    def __post_init__(self) -> None:
        if not isinstance(self.member, Member):
            raise check.misfit("member must be a Member", self.member)


@dataclass(frozen=True, slots=True)
class _ToMember:
    """A command that is about the member of a name."""

    name: str

    def __post_init__(self) -> None:
        check.text("name", self.name)


@dataclass(frozen=True, slots=True)
class RemoveMember(_ToMember):
    """Take a member out: it gets nothing new, finishes what it has, then it is closed."""


@dataclass(frozen=True, slots=True)
class ResetMember(_ToMember):
    """Close a member's breaker and forget its recent outcomes; bring it back if it was given up."""


@dataclass(frozen=True, slots=True)
class ResetAll:
    """`ResetMember` for every member."""


@dataclass(frozen=True, slots=True)
class ForceOpen(_ToMember):
    """Hold a member's breaker open until it is reset."""


@dataclass(frozen=True, slots=True)
class DisableBreaker(_ToMember):
    """Let a member's traffic through whatever happens, until it is reset."""


@dataclass(frozen=True, slots=True)
class ReportMember(_ToMember):
    """What somebody outside of the pool knows of a member: another process that uses it as well, or
    the engine that carries its calls.

    Args:
        state: "open": it fails, and its breaker opens, or stays open, until then. "cooling": it is
            throttled, and rests. "unreachable": the way to it is away, which is not its fault: it
            is given nothing, and what fails meanwhile counts for nothing. "closed": it works: an
            open breaker closes, and it is reachable.
        for_s: for how many seconds from now; with "closed" none. 0 with "unreachable": it is
            reachable again.
        source: who says so, for the log.
        kind: the failure by which it is known; by default what is usual for the state.

    A breaker that is held by hand, or disabled, stays so.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    state: ReportedState
    for_s: float | None = field(default=None, kw_only=True)
    source: str = field(default="", kw_only=True)
    kind: FailureKind | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _ToMember.__post_init__(self)
        object.__setattr__(self, "state", check.one_of("state", self.state, ReportedState))
        if self.source:  # it stands in a line of the log
            check.name("source", self.source)
        if self.kind is not None:
            object.__setattr__(self, "kind", check.one_of("kind", self.kind, FailureKind))
        if self.state is ReportedState.CLOSED:
            if self.for_s is not None:
                raise ValueError(f"for_s must be left out of 'closed', got {self.for_s!r}")
            return
        above = self.state is not ReportedState.UNREACHABLE
        check.number("for_s", self.for_s, above=above, maximum=LONGEST_REPORT_S)


Command = (
    GetStats
    | GetMembers
    | AddMember
    | RemoveMember
    | ResetMember
    | ResetAll
    | ForceOpen
    | DisableBreaker
    | ReportMember
    | Configure
)
"""What the supervisor is asked for: the router passes it on."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Refuse new requests and finish those at hand; past the timeout the rest fail.

    Answered with True when all of them finished in time.
    """

    timeout: float | None = None
    timeout_s: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, timeout_s: float | None) -> None:
        if timeout_s is not None:
            _take_older_name(self, timeout_s)
        else:
            check.number("timeout", self.timeout, optional=True)


for _each in (RequestOptions, Request, Apply, Acquire, Drain):
    # It is no field: `dataclasses.replace` would hand on both names.
    del _each.__dataclass_fields__["timeout_s"]
    setattr(_each, "timeout_s", property(attrgetter("timeout")))  # noqa: B010 - mypy knows a field


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Have every event told to an actor's ref, or given to a callable (on a thread of its own).

    Answered with a function that ends the subscription.
    """

    subscriber: Any

    def __post_init__(self) -> None:
        if not callable(getattr(self.subscriber, "tell", None)) and not callable(self.subscriber):
            raise check.misfit("subscriber must be an actor ref or a callable", self.subscriber)


Subscriber = Callable[["Event"], Any]
